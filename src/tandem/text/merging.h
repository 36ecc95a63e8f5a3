// Byte-pair merging of one word: as long as two neighbours have a merge, the one of lowest rank,
// leftmost among equals, is done.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tandem/text/merge_table.h"

namespace tandem::text {

// Memory that is used again from word to word.
struct MergingSpace {
  struct Symbol {
    int32_t token = -1;  // -1: was merged into the one on its left
    int32_t previous = -1;
    int32_t next = -1;
  };
  struct Candidate {
    uint32_t rank = 0;
    int32_t left = 0;   // place of the left symbol
    int32_t token = 0;  // what the pair becomes
  };
  std::vector<Merge> merges;
  std::vector<Symbol> symbols;
  std::vector<Candidate> heap;
};

// Merges `tokens` in place, in n log n steps for a long word.
void merge_word(const MergeTable& table, std::vector<int32_t>& tokens, MergingSpace& space);

}  // namespace tandem::text
