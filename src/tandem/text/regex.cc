#include "tandem/text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <new>

#include "tandem/base/error.h"

namespace tandem::text {

namespace {

// Steps of one match: what sane patterns need is a few for each byte of a run that they look back
// over.
uint32_t match_limit(size_t bytes) {
  return 1'000'000 + 8 * static_cast<uint32_t>(std::min<size_t>(bytes, UINT32_MAX / 16));
}

constexpr size_t first_stack_bytes = 32 << 10;
constexpr size_t largest_stack_bytes = 1 << 20;

// What PCRE2 writes into while it matches. One for each thread, since none of it outlives a call.
struct MatchSpace {
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(first_stack_bytes, largest_stack_bytes, nullptr);

  MatchSpace() {
    if (!data || !context || !stack) throw std::bad_alloc();
    pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~MatchSpace() {
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
  }
  MatchSpace(const MatchSpace&) = delete;
  MatchSpace& operator=(const MatchSpace&) = delete;
};

MatchSpace& match_space() {
  thread_local MatchSpace space;
  return space;
}

std::string message_of(int error) {
  PCRE2_UCHAR buffer[256] = {};
  pcre2_get_error_message(error, buffer, sizeof buffer);
  return reinterpret_cast<const char*>(buffer);
}

PCRE2_SPTR units(std::string_view text) {
  // Of an empty view the pointer may be null, which PCRE2 takes for a mistake.
  return reinterpret_cast<PCRE2_SPTR>(text.empty() ? "" : text.data());
}

}  // namespace

struct Regex::Code {
  pcre2_code* code = nullptr;
  bool jit = false;

  explicit Code(pcre2_code* compiled) : code(compiled) {
    jit = pcre2_jit_compile(code, PCRE2_JIT_COMPLETE) == 0;  // without it only slower
  }
  ~Code() { pcre2_code_free(code); }
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
};

Regex::Regex(std::string_view oniguruma, const std::string& where) : where_(where) {
  const std::string pattern = pcre2_pattern(oniguruma, where);
  int error = 0;
  size_t offset = 0;
  pcre2_code* code =
      pcre2_compile(units(pattern), pattern.size(), PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C,
                    &error, &offset, nullptr);
  if (!code) throw InputError("{}: regular expression refused: {}", where, message_of(error));
  code_ = std::make_shared<const Code>(code);
}

std::optional<Regex::Match> Regex::find(std::string_view text, size_t from) const {
  MatchSpace& space = match_space();
  pcre2_set_match_limit(space.context, match_limit(text.size() - from));
  const int found = code_->jit ? pcre2_jit_match(code_->code, units(text), text.size(), from, 0,
                                                 space.data, space.context)
                               : pcre2_match(code_->code, units(text), text.size(), from,
                                             PCRE2_NO_UTF_CHECK, space.data, space.context);
  if (found == PCRE2_ERROR_NOMATCH) return std::nullopt;
  // Zero: there are groups, for which no room was given and none is needed.
  if (found < 0) {
    throw InputError("{}: regular expression gave up on a text: {}", where_, message_of(found));
  }
  const PCRE2_SIZE* range = pcre2_get_ovector_pointer(space.data);
  return Match{range[0], range[1]};
}

}  // namespace tandem::text
