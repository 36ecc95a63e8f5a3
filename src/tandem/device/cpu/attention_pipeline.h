// Units of rows go through blocks of keys and values in three stages: scores, weights, values. The
// stages of three units that follow each other are one step (attention_step.h).
#pragma once

#include "tandem/device/cpu/attention_step.h"
#include "tandem/device/cpu/attention_unit.h"

namespace tandem::cpu {

class AttentionPipeline {
 public:
  // A unit with its queries (a strip) and what is summed up for it.
  struct Row {
    Unit unit;
    const std::byte* queries = nullptr;
    RowSums sums;
  };

  // One at a time lives on a thread.
  AttentionPipeline(const Attention& op, const Engine& engine, const AttentionItem& item,
                    std::span<const Row> rows);

  // The blocks of one stretch; sums begin anew.
  void run(int64_t stretch);

 private:
  struct Step {
    const Row* row = nullptr;  // null: no step
    int64_t position = 0;      // where its block begins
    int64_t number = 0;        // of the step,
    int64_t block = 0;         // and of blocks of a head so far
    bool first = false;        // of the rows that use the block
  };
  // What a step leaves for the next stage.
  struct Stage {
    BlockScores* scores = nullptr;
    std::byte* weights = nullptr;
    RowLine* shrink = nullptr;
    bool raised = false;
  };

  Step following(const Step& step) const;
  void run(const Step& previous, const Step& step, const Step& next);
  AttentionStep::Scores scores(const Step& next);
  AttentionStep::Values values(const Step& previous) const;
  SoftmaxStep softmax(const Step& step) const;
  void raise(const Step& step);
  void turn_values(const Step& step, int64_t lines_ahead);
  int64_t lines_of_head(const Step& step);
  HeadBlock block_of(const Step& step, const Tensor& t, int64_t dim) const;
  Stage& stage(const Step& step) { return stages_[step.number % 2]; }
  const Stage& stage(const Step& step) const { return stages_[step.number % 2]; }

  const Attention& op_;
  const Engine& engine_;
  const AttentionItem& item_;
  std::span<const Row> rows_;
  Interval positions_;  // of the stretch
  Stage stages_[2];
  LinesAhead ahead_;  // the block behind that of this step, of all heads
  int64_t ahead_position_ = -1;
  BlockPanels keys_;        // of the next step
  TurnedPanels values_[2];  // of this step and the one before
  BlockScores* mask_;
  std::byte *packed_keys_, *turned_values_[2];
};

}  // namespace tandem::cpu
