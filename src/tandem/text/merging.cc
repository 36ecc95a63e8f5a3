#include "tandem/text/merging.h"

#include <algorithm>
#include <cstddef>

namespace tandem::text {

namespace {

constexpr size_t short_word = 48;  // tokens up to which looking at all pairs beats a heap

void merge_short(const MergeTable& table, std::vector<int32_t>& tokens,
                 std::vector<Merge>& merges) {
  merges.clear();
  for (size_t i = 0; i + 1 < tokens.size(); ++i) {
    merges.push_back(table.find(tokens[i], tokens[i + 1]));
  }
  while (!merges.empty()) {
    const auto best = std::min_element(
        merges.begin(), merges.end(),
        [](const Merge& a, const Merge& b) { return a.rank < b.rank; });  // the first of equals
    if (!*best) return;
    const auto i = static_cast<size_t>(best - merges.begin());
    tokens[i] = best->token;
    tokens.erase(tokens.begin() + static_cast<ptrdiff_t>(i) + 1);
    merges.erase(best);
    if (i > 0) merges[i - 1] = table.find(tokens[i - 1], tokens[i]);
    if (i < merges.size()) merges[i] = table.find(tokens[i], tokens[i + 1]);
  }
}

using Symbol = MergingSpace::Symbol;
using Candidate = MergingSpace::Candidate;

bool later(const Candidate& a, const Candidate& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.left > b.left;
}

class LongWord {
 public:
  LongWord(const MergeTable& table, MergingSpace& space)
      : table_(table), symbols_(space.symbols), heap_(space.heap) {}

  void merge(std::vector<int32_t>& tokens) {
    const auto n = static_cast<int32_t>(tokens.size());
    symbols_.resize(tokens.size());
    for (int32_t i = 0; i < n; ++i) {
      symbols_[i] = {.token = tokens[i], .previous = i - 1, .next = i + 1 < n ? i + 1 : -1};
    }
    heap_.clear();
    for (int32_t i = 0; i + 1 < n; ++i) collect(i);
    std::make_heap(heap_.begin(), heap_.end(), later);
    while (!heap_.empty()) {
      std::pop_heap(heap_.begin(), heap_.end(), later);
      const Candidate candidate = heap_.back();
      heap_.pop_back();
      apply(candidate);
    }
    tokens.clear();
    for (int32_t i = 0; i >= 0; i = symbols_[i].next) tokens.push_back(symbols_[i].token);
  }

 private:
  bool collect(int32_t left) {
    const Symbol& symbol = symbols_[left];
    if (symbol.next < 0) return false;
    const Merge merge = table_.find(symbol.token, symbols_[symbol.next].token);
    if (!merge) return false;
    heap_.push_back({.rank = merge.rank, .left = left, .token = merge.token});
    return true;
  }
  void push(int32_t left) {
    if (collect(left)) std::push_heap(heap_.begin(), heap_.end(), later);
  }

  void apply(const Candidate& candidate) {
    Symbol& left = symbols_[candidate.left];
    if (left.token < 0 || left.next < 0) return;
    Symbol& right = symbols_[left.next];
    // A neighbour may have been merged since: then this pair is another one.
    if (table_.find(left.token, right.token).token != candidate.token) return;
    left.token = candidate.token;
    left.next = right.next;
    right.token = -1;
    if (left.next >= 0) symbols_[left.next].previous = candidate.left;
    if (left.previous >= 0) push(left.previous);
    push(candidate.left);
  }

  const MergeTable& table_;
  std::vector<Symbol>& symbols_;
  std::vector<Candidate>& heap_;
};

}  // namespace

void merge_word(const MergeTable& table, std::vector<int32_t>& tokens, MergingSpace& space) {
  if (tokens.size() <= short_word) {
    merge_short(table, tokens, space.merges);
  } else {
    LongWord(table, space).merge(tokens);
  }
}

}  // namespace tandem::text
