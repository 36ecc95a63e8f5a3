#include "tandem/text/model_text.h"

#include "tandem/base/error.h"
#include "tandem/model/byte_tokenizer.h"

namespace tandem {

ModelText::ModelText(const std::filesystem::path& directory, const ModelConfig& model) {
  const auto file = directory / "tokenizer.json";
  if (!std::filesystem::exists(file)) {
    if (model.vocab_size < ByteTokenizer::byte_tokens)
      throw InputError("{}: has no tokenizer.json, and vocab_size {} is too small for bytes",
                       directory.string(), model.vocab_size);
    return;
  }
  tokenizer_ = Tokenizer::read(file);
  if (tokenizer_->vocabulary_size() > model.vocab_size)
    throw InputError("{}: {} tokens, but the model's vocab_size is {}", file.string(),
                     tokenizer_->vocabulary_size(), model.vocab_size);
}

std::vector<int32_t> ModelText::encode(std::string_view text, bool begins) const {
  return tokenizer_ ? tokenizer_->encode(text, begins) : ByteTokenizer().encode(text);
}

std::string ModelText::token_text(int32_t token) const {
  return tokenizer_ ? tokenizer_->decode({&token, 1}, false) : ByteTokenizer().decode({&token, 1});
}

ModelText::Stream::Stream(const ModelText& text) {
  if (text.tokenizer_) stream_.emplace(*text.tokenizer_);
}

std::string ModelText::Stream::push(int32_t token) {
  return stream_ ? stream_->push(token) : ByteTokenizer().decode({&token, 1});
}

std::string ModelText::Stream::finish() { return stream_ ? stream_->finish() : std::string(); }

}  // namespace tandem
