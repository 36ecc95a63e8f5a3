// Text to tokens and back, as the tokenizer.json of a model directory says: the format of the
// tokenizers library, with the same ids. docs/tokenizers.md lists what is supported.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tandem {

class DecodeStream;

// May be used by any number of threads at once. Copies share everything.
class Tokenizer {
 public:
  // A tokenizer.json or the directory that has one. InputError naming the file and the field where
  // it is damaged or asks for something that is not supported.
  static Tokenizer read(const std::filesystem::path& directory_or_file);
  // The same of the text of a tokenizer.json; `where` is its name in messages.
  static Tokenizer parse(std::string_view json, const std::string& where);

  // The tokens of a text. Bytes that are not UTF-8 count as U+FFFD. `add_special`: with the tokens
  // that the post-processor puts around a text, such as that of its beginning.
  std::vector<int32_t> encode(std::string_view text, bool add_special = true) const;

  // The text of tokens, valid UTF-8. Ids without a token are left out, and if asked so are the
  // special ones.
  std::string decode(std::span<const int32_t> ids, bool skip_special = true) const;

  int32_t vocabulary_size() const;  // ids are 0 to this, exclusive
  std::optional<int32_t> id_of(std::string_view token) const;
  std::optional<std::string> token_of(int32_t id) const;  // as tokenizer.json writes it
  bool is_special(int32_t id) const;

 private:
  friend class DecodeStream;
  class Parts;

  explicit Tokenizer(std::shared_ptr<const Parts> parts) : parts_(std::move(parts)) {}

  std::shared_ptr<const Parts> parts_;
};

// Decodes tokens one after the other. All that it returns, put together, is what decode() makes of
// all the tokens; each part is made of whole characters. Where the text depends on tokens to come
// (the rest of a character, or of a row of byte tokens), it waits for them.
class DecodeStream {
 public:
  explicit DecodeStream(const Tokenizer& tokenizer, bool skip_special = true);
  ~DecodeStream();
  DecodeStream(DecodeStream&&) noexcept;
  DecodeStream& operator=(DecodeStream&&) noexcept;

  std::string push(int32_t id);
  std::string finish();  // what was held back; then the stream is over

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tandem
