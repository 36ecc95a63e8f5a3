// What is done at one time for units of rows that go through blocks of keys and values: scores of
// one unit, weights of a second, values of a third. None touches what is another's.
#pragma once

#include "tandem/device/cpu/attention_ahead.h"
#include "tandem/device/cpu/attention_block.h"

namespace tandem::cpu {

struct AttentionStep {
  // scores[position][lane] of up to 64 positions; lines of positions that are not there are left
  // alone, or hold anything.
  struct Scores {
    const BlockPanels* keys = nullptr;   // null: nothing to do
    const std::byte* queries = nullptr;  // a strip: rows across, features as depth
    int columns = 32;
    BlockScores* to = nullptr;
  } scores;
  SoftmaxStep weights;
  // sums[feature][lane] = (or +=, where they are begun) sum of features times weights.
  struct Values {
    const TurnedPanels* features = nullptr;  // null: nothing to do
    const std::byte* weights = nullptr;      // a strip: rows across, positions as depth
    int columns = 32;
    bool begun = false;
    RowLine* sums = nullptr;
  } values;
  LinesAhead* ahead =
      nullptr;  // of which `lines_ahead` are brought near meanwhile; may be null if there are none
  int64_t lines_ahead = 0;
};

// A core has room for little else than one tile product at a time, so that products and vectors
// only overlap where they take turns.
void run_amx(const AttentionStep& step);
// Products of 32 columns, whatever `columns` are wanted.
void run_avx512(const AttentionStep& step);

}  // namespace tandem::cpu
