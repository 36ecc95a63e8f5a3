// Text to a model's tokens and back: by the tokenizer.json of its directory, or, where that has
// none, a token for every byte.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tandem/model/config.h"
#include "tandem/text/tokenizer.h"

namespace tandem {

// May be used by any number of threads at once.
class ModelText {
 public:
  // InputError where the tokenizer has more tokens than the model.
  ModelText(const std::filesystem::path& directory, const ModelConfig& model);

  // `begins`: with what a text of this model begins with, if anything.
  std::vector<int32_t> encode(std::string_view text, bool begins) const;

  // Of a token alone, also of a special one; need not be whole characters.
  std::string token_text(int32_t token) const;

  // Tokens one after the other; what it returns is whole characters, unless the model makes bytes.
  class Stream {
   public:
    explicit Stream(const ModelText& text);
    std::string push(int32_t token);
    std::string finish();

   private:
    std::optional<DecodeStream> stream_;
  };

 private:
  std::optional<Tokenizer> tokenizer_;
};

}  // namespace tandem
