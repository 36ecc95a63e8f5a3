#include "tandem/text/decoder_stages.h"

#include <algorithm>
#include <optional>

#include "tandem/text/byte_alphabet.h"
#include "tandem/text/utf8.h"

namespace tandem::text {

namespace {

class Join : public DecoderStage {
 public:
  void token(std::string token, const TokenSink& next) override {
    next(first_ ? std::move(token) : " " + token);
    first_ = false;
  }
  void finish(const TokenSink&) override {}

 private:
  bool first_ = true;
};

class ByteLevel : public DecoderStage {
 public:
  void token(std::string token, const TokenSink& next) override {
    const std::optional<std::string> bytes = bytes_of_letters(token);
    bytes_ += bytes ? *bytes : token;
    const size_t certain = bytes_.size() - unfinished_suffix(bytes_);
    if (certain == 0) return;
    emit(std::string_view(bytes_).substr(0, certain), next);
    bytes_.erase(0, certain);
  }
  void finish(const TokenSink& next) override {
    if (!bytes_.empty()) emit(bytes_, next);
  }

 private:
  static void emit(std::string_view bytes, const TokenSink& next) {
    std::string text;
    append_repaired(text, bytes);
    next(std::move(text));
  }
  std::string bytes_;  // the beginning of a character
};

std::optional<char> byte_of_token(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || !token.ends_with('>')) return std::nullopt;
  const auto digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
  };
  const int high = token[3] == '+' ? 0 : digit(token[3]);  // Rust's numbers may have a sign
  const int low = digit(token[4]);
  if (high < 0 || low < 0) return std::nullopt;
  return static_cast<char>(high * 16 + low);
}

// Byte tokens in a row are text together, or each of them is a U+FFFD: only the token behind the
// last one tells.
class ByteFallback : public DecoderStage {
 public:
  void token(std::string token, const TokenSink& next) override {
    if (const std::optional<char> byte = byte_of_token(token)) {
      bytes_.push_back(*byte);
      return;
    }
    finish(next);
    next(std::move(token));
  }
  void finish(const TokenSink& next) override {
    if (bytes_.empty()) return;
    if (valid_prefix(bytes_) == bytes_.size()) {
      next(std::move(bytes_));
    } else {
      for (size_t i = 0; i < bytes_.size(); ++i) next(std::string(replacement_character));
    }
    bytes_.clear();
  }

 private:
  std::string bytes_;
};

class EachToken : public DecoderStage {
 public:
  explicit EachToken(std::function<std::string(std::string)> change) : change_(std::move(change)) {}
  void token(std::string token, const TokenSink& next) override { next(change_(std::move(token))); }
  void finish(const TokenSink&) override {}

 private:
  std::function<std::string(std::string)> change_;
};

class MetaspaceDecoding : public DecoderStage {
 public:
  explicit MetaspaceDecoding(const Metaspace& metaspace) : metaspace_(metaspace) {}
  void token(std::string token, const TokenSink& next) override {
    const bool drop = first_ && metaspace_.prepend != Metaspace::Prepend::never;
    first_ = false;
    std::string text;
    const std::string& mark = metaspace_.replacement;
    size_t done = 0;
    for (size_t at = token.find(mark); at != token.npos; at = token.find(mark, done)) {
      text.append(token, done, at - done).append(drop ? "" : " ");
      done = at + mark.size();
    }
    next(text.append(token, done));
  }
  void finish(const TokenSink&) override {}

 private:
  Metaspace metaspace_;
  bool first_ = true;
};

// How often `text` begins or ends with `character`, up to `most`.
size_t count_front(std::string_view text, const std::string& character, size_t most) {
  size_t n = 0;
  for (; n < most && text.starts_with(character); ++n) text.remove_prefix(character.size());
  return n;
}
size_t count_back(std::string_view text, const std::string& character, size_t most) {
  size_t n = 0;
  for (; n < most && text.ends_with(character); ++n) text.remove_suffix(character.size());
  return n;
}

std::string stripped(std::string text, const Strip& strip) {
  const size_t front = count_front(text, strip.character, strip.start) * strip.character.size();
  text.erase(0, front);
  text.resize(text.size() - count_back(text, strip.character, strip.stop) * strip.character.size());
  return text;
}

class StripText : public DecoderStage {
 public:
  explicit StripText(const Strip& strip) : strip_(strip), start_(strip.start) {}
  void token(std::string token, const TokenSink& next) override {
    held_ += token;
    const size_t front = count_front(held_, strip_.character, start_);
    held_.erase(0, front * strip_.character.size());
    start_ -= front;
    if (held_.empty()) return;  // the beginning may go on
    start_ = 0;
    const size_t back = count_back(held_, strip_.character, strip_.stop);
    const size_t certain = held_.size() - back * strip_.character.size();
    if (certain > 0) next(held_.substr(0, certain));
    held_.erase(0, certain);
  }
  void finish(const TokenSink& next) override {
    const size_t back = count_back(held_, strip_.character, strip_.stop);
    held_.resize(held_.size() - back * strip_.character.size());
    if (!held_.empty()) next(std::move(held_));
    held_.clear();
  }

 private:
  Strip strip_;
  size_t start_;      // how many more may be taken off the beginning
  std::string held_;  // what may have to be taken off the end
};

}  // namespace

DecoderStep join_with_spaces() {
  return [] { return std::make_unique<Join>(); };
}

DecoderStep byte_level_decoding() {
  return [] { return std::make_unique<ByteLevel>(); };
}

DecoderStep byte_fallback_decoding() {
  return [] { return std::make_unique<ByteFallback>(); };
}

DecoderStep each_token(std::function<std::string(std::string)> change) {
  return [change = std::move(change)] { return std::make_unique<EachToken>(change); };
}

DecoderStep metaspace_decoding(const Metaspace& metaspace) {
  return [=] { return std::make_unique<MetaspaceDecoding>(metaspace); };
}

DecoderStep strip_tokens(const Strip& strip) {
  return each_token([=](std::string token) { return stripped(std::move(token), strip); });
}

DecoderStep strip_text(const Strip& strip) {
  return [=] { return std::make_unique<StripText>(strip); };
}

}  // namespace tandem::text
