// Cuts a text into the pieces that the model tokenizes one by one: the "pre_tokenizer" of
// tokenizer.json.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "tandem/text/json_fields.h"

namespace tandem::text {

struct Piece {
  std::string_view text;  // valid UTF-8
  bool first = false;     // the text begins with it
};

// Where pieces go to. A reference: what it was made from must outlive it.
class PieceSink {
 public:
  template <class Function,
            class = std::enable_if_t<!std::is_same_v<std::remove_cv_t<Function>, PieceSink>>>
  PieceSink(Function& function)  // NOLINT: a conversion, as for std::function
      : function_(&function),
        call_([](void* f, const Piece& piece) { (*static_cast<Function*>(f))(piece); }) {}
  void operator()(const Piece& piece) const { call_(function_, piece); }

 private:
  void* function_;
  void (*call_)(void*, const Piece&);
};

class PreTokenizerStep {
 public:
  virtual ~PreTokenizerStep() = default;
  virtual void split(const Piece& piece, PieceSink next) const = 0;  // from any thread
};

class PreTokenizer {
 public:
  PreTokenizer() = default;  // the text is one piece
  // InputError with `where` in front for what is not supported; `json` may be null.
  PreTokenizer(const Json& json, const std::string& where);

  // The pieces are bytes to the model, whose tokens are written in the byte-level alphabet.
  bool byte_level() const { return byte_level_; }
  // Calls `sink` with each piece in order; none is empty, and each lives until the call is over.
  void split(const Piece& piece, PieceSink sink) const { split_from(0, piece, sink); }

 private:
  void add(const Json& json, const std::string& where, int depth);
  void add_byte_level(JsonFields& fields);
  void split_from(size_t step, const Piece& piece, PieceSink sink) const;

  std::vector<std::unique_ptr<const PreTokenizerStep>> steps_;
  bool byte_level_ = false;
};

}  // namespace tandem::text
