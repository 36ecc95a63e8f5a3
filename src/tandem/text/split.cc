#include "tandem/text/split.h"

#include <algorithm>

#include "tandem/base/error.h"
#include "tandem/text/regex.h"

namespace tandem::text {

namespace {

struct Part {
  size_t begin = 0;
  size_t end = 0;
  bool match = false;
};

void merge_backwards(std::vector<Part>& parts) {
  std::vector<Part> merged;
  bool previous = false;
  for (const Part& part : parts) {
    if (part.match && !previous && !merged.empty()) {
      merged.back().end = part.end;
    } else {
      merged.push_back(part);
    }
    previous = part.match;
  }
  parts = std::move(merged);
}

void merge_forwards(std::vector<Part>& parts) {
  std::vector<Part> merged;
  bool previous = false;
  for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
    if (part->match && !previous && !merged.empty()) {
      merged.back().begin = part->begin;
    } else {
      merged.push_back(*part);
    }
    previous = part->match;
  }
  std::reverse(merged.begin(), merged.end());
  parts = std::move(merged);
}

void merge_contiguous(std::vector<Part>& parts) {
  std::vector<Part> merged;
  bool previous = false;
  for (const Part& part : parts) {
    if (part.match == previous && !merged.empty()) {
      merged.back().end = part.end;
    } else {
      merged.push_back(part);
    }
    previous = part.match;
  }
  parts = std::move(merged);
}

struct StringPattern {
  std::string pattern;

  template <class Function>
  void for_each(std::string_view text, Function match) const {
    for (size_t at = text.find(pattern); at != text.npos;
         at = text.find(pattern, at + pattern.size())) {
      match(at, at + pattern.size());
    }
  }
};

struct RegexPattern {
  Regex regex;

  template <class Function>
  void for_each(std::string_view text, Function match) const {
    for_each_match(regex, text, match);
  }
};

template <class Pattern>
class Split : public PreTokenizerStep {
 public:
  Split(Pattern pattern, SplitBehavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}

  void split(const Piece& piece, PieceSink next) const override {
    const auto emit = [&](size_t begin, size_t end) {
      if (begin == end) return;
      next({.text = piece.text.substr(begin, end - begin), .first = piece.first && begin == 0});
    };
    if (behavior_ == SplitBehavior::isolated) {  // the usual case needs no list
      parts(piece.text, [&](const Part& part) { emit(part.begin, part.end); });
    } else if (behavior_ == SplitBehavior::removed) {
      parts(piece.text, [&](const Part& part) {
        if (!part.match) emit(part.begin, part.end);
      });
    } else {
      std::vector<Part> list;
      parts(piece.text, [&](const Part& part) { list.push_back(part); });
      merge(list);
      for (const Part& part : list) emit(part.begin, part.end);
    }
  }

 private:
  template <class Function>
  void parts(std::string_view text, Function part) const {
    size_t done = 0;
    pattern_.for_each(text, [&](size_t begin, size_t end) {
      if (done != begin) part(Part{done, begin, invert_});
      part(Part{begin, end, !invert_});
      done = end;
    });
    if (done != text.size()) part(Part{done, text.size(), invert_});
  }

  void merge(std::vector<Part>& list) const {
    switch (behavior_) {
      case SplitBehavior::merged_with_previous:
        return merge_backwards(list);
      case SplitBehavior::merged_with_next:
        return merge_forwards(list);
      case SplitBehavior::contiguous:
        return merge_contiguous(list);
      default:
        return;
    }
  }

  Pattern pattern_;
  SplitBehavior behavior_;
  bool invert_;
};

}  // namespace

SplitBehavior split_behavior(JsonFields& fields, std::string_view name) {
  const std::string behavior = fields.string(name);
  if (behavior == "Removed") return SplitBehavior::removed;
  if (behavior == "Isolated") return SplitBehavior::isolated;
  if (behavior == "MergedWithPrevious") return SplitBehavior::merged_with_previous;
  if (behavior == "MergedWithNext") return SplitBehavior::merged_with_next;
  if (behavior == "Contiguous") return SplitBehavior::contiguous;
  fields.refuse(name, "Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous");
}

std::unique_ptr<PreTokenizerStep> split_at_regex(std::string_view oniguruma,
                                                 const std::string& where, SplitBehavior behavior,
                                                 bool invert) {
  return std::make_unique<Split<RegexPattern>>(RegexPattern{Regex(oniguruma, where)}, behavior,
                                               invert);
}

std::unique_ptr<PreTokenizerStep> split_at_string(std::string pattern, SplitBehavior behavior,
                                                  bool invert) {
  return std::make_unique<Split<StringPattern>>(StringPattern{std::move(pattern)}, behavior,
                                                invert);
}

}  // namespace tandem::text
