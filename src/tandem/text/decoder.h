// Makes text of tokens: the "decoder" of tokenizer.json. Each step takes tokens one by one and
// hands on what is certain already, so that whole texts and streams come out of the same code.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tandem/text/json_fields.h"

namespace tandem::text {

using TokenSink = std::function<void(std::string)>;

// A step at work on one text.
class DecoderStage {
 public:
  virtual ~DecoderStage() = default;
  virtual void token(std::string token, const TokenSink& next) = 0;
  virtual void finish(const TokenSink& next) = 0;  // the text is over
};

using DecoderStep = std::function<std::unique_ptr<DecoderStage>()>;

class Decoder {
 public:
  // `json` may be null: then tokens are joined by spaces, as tokenizers does it. InputError with
  // `where` in front for what is not supported.
  Decoder(const Json& json, const std::string& where);

  // One text being decoded; it must not outlive the decoder.
  class Run {
   public:
    explicit Run(const Decoder& decoder);
    // Appends to `out` the text that is certain with this token: valid UTF-8, of whole characters.
    void token(std::string token, std::string& out);
    void finish(std::string& out);  // and what was held back

   private:
    void pass(size_t stage, std::string token, std::string& out);
    std::vector<std::unique_ptr<DecoderStage>> stages_;
  };

 private:
  void add(const Json& json, const std::string& where, int depth);
  void add_strip(JsonFields& fields);

  std::vector<DecoderStep> steps_;
  bool joined_ = false;  // the steps so far make a single token of all
};

}  // namespace tandem::text
