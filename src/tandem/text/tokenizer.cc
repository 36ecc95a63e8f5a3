#include "tandem/text/tokenizer.h"

#include "tandem/text/tokenizer_parts.h"
#include "tandem/text/utf8.h"

namespace tandem {

using text::AddedToken;
using text::Bpe;
using text::Piece;
using text::TokenFinder;

class Tokenizer::Parts::BorrowedSpace {
 public:
  explicit BorrowedSpace(const Parts& parts) : parts_(parts) {
    const std::lock_guard lock(parts_.spaces_mutex_);
    if (!parts_.spaces_.empty()) {
      space_ = std::move(parts_.spaces_.back());
      parts_.spaces_.pop_back();
    }
  }
  ~BorrowedSpace() {
    if (!space_) return;
    const std::lock_guard lock(parts_.spaces_mutex_);
    parts_.spaces_.push_back(std::move(space_));
  }
  BorrowedSpace(const BorrowedSpace&) = delete;
  BorrowedSpace& operator=(const BorrowedSpace&) = delete;

  Bpe::Space& get() {
    if (!space_) space_ = std::make_unique<Bpe::Space>();
    return *space_;
  }

 private:
  const Parts& parts_;
  std::unique_ptr<Bpe::Space> space_;
};

std::vector<int32_t> Tokenizer::Parts::encode(std::string_view given, bool add_special) const {
  std::string repaired;
  std::string_view text = given;
  if (text::valid_prefix(given) != given.size()) {
    text::append_repaired(repaired, given);
    text = repaired;
  }
  std::vector<int32_t> ids;
  ids.reserve(text.size() / 3 + 8);
  if (add_special) ids = post_processor_.before();
  BorrowedSpace space(*this);
  if (!text.empty()) {
    plain_tokens_.split(text, [&](const TokenFinder::Part& part) {
      if (part.token) {
        ids.push_back(part.token->id);
      } else {
        encode_part(part.text, part.begin == 0, space.get(), ids);
      }
    });
  }
  if (add_special) {
    ids.insert(ids.end(), post_processor_.behind().begin(), post_processor_.behind().end());
  }
  return ids;
}

void Tokenizer::Parts::encode_part(std::string_view part, bool first, Bpe::Space& space,
                                   std::vector<int32_t>& ids) const {
  std::string normalized;
  if (!normalizer_.empty()) {
    normalized = normalizer_.apply(std::string(part));
    if (normalized.empty()) return;
    part = normalized;
  }
  auto encode_piece = [&](const Piece& piece) { bpe_.encode(piece.text, space, ids); };
  normalized_tokens_.split(part, [&](const TokenFinder::Part& found) {
    if (found.token) {
      ids.push_back(found.token->id);
    } else {
      pre_tokenizer_.split({.text = found.text, .first = first && found.begin == 0}, encode_piece);
    }
  });
}

bool Tokenizer::Parts::is_special(int32_t id) const {
  return id >= 0 && static_cast<size_t>(id) < special_.size() && special_[static_cast<size_t>(id)];
}

const std::string* Tokenizer::Parts::shown(int32_t id, bool skip_special) const {
  if (skip_special && is_special(id)) return nullptr;
  const auto form = normalized_forms_.find(id);
  return form == normalized_forms_.end() ? vocabulary_.token(id) : &form->second;
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool add_special) const {
  return parts_->encode(text, add_special);
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  std::string text;
  text::Decoder::Run run(parts_->decoder());
  for (const int32_t id : ids) {
    if (const std::string* token = parts_->shown(id, skip_special)) run.token(*token, text);
  }
  run.finish(text);
  return text;
}

int32_t Tokenizer::vocabulary_size() const { return parts_->vocabulary().size(); }

std::optional<int32_t> Tokenizer::id_of(std::string_view token) const {
  const int32_t id = parts_->vocabulary().find(token);
  return id < 0 ? std::nullopt : std::optional(id);
}

std::optional<std::string> Tokenizer::token_of(int32_t id) const {
  const std::string* token = parts_->vocabulary().token(id);
  return token ? std::optional(*token) : std::nullopt;
}

bool Tokenizer::is_special(int32_t id) const { return parts_->is_special(id); }

struct DecodeStream::State {
  Tokenizer tokenizer;  // keeps the decoder alive
  bool skip_special;
  text::Decoder::Run run;
};

DecodeStream::DecodeStream(const Tokenizer& tokenizer, bool skip_special)
    : state_(new State{tokenizer, skip_special, text::Decoder::Run(tokenizer.parts_->decoder())}) {}
DecodeStream::~DecodeStream() = default;
DecodeStream::DecodeStream(DecodeStream&&) noexcept = default;
DecodeStream& DecodeStream::operator=(DecodeStream&&) noexcept = default;

std::string DecodeStream::push(int32_t id) {
  std::string text;
  const std::string* token = state_->tokenizer.parts_->shown(id, state_->skip_special);
  if (token) state_->run.token(*token, text);
  return text;
}

std::string DecodeStream::finish() {
  std::string text;
  state_->run.finish(text);
  return text;
}

}  // namespace tandem
