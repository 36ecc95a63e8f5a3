#include "tandem/device/cpu/attention_pipeline.h"

#include "tandem/device/cpu/attention_tile_memory.h"

namespace tandem::cpu {
namespace {

// A block of keys that few units read is read where it lies.
constexpr int64_t units_in_place = 2;

}  // namespace

AttentionPipeline::AttentionPipeline(const Attention& op, const Engine& engine,
                                     const AttentionItem& item, std::span<const Row> rows)
    : op_(op), engine_(engine), item_(item), rows_(rows) {
  static thread_local TileMemory memory;
  memory.lay_out([&](auto& take) {
    take(packed_keys_, panels_bytes(engine, op.heads.head_dim));
    for (std::byte*& values : turned_values_)
      take(values, turned_bytes(engine, op.heads.value_dim));
    for (Stage& stage : stages_) {
      take(stage.scores, sizeof(BlockScores));
      take(stage.weights, engine.dwords(kv_block_tokens) * strip_dword_bytes);
      take(stage.shrink, sizeof(RowLine));
    }
    take(mask_, sizeof(BlockScores));
  });
}

void AttentionPipeline::run(int64_t stretch) {
  positions_ = {stretch * stretch_tokens,
                std::min((stretch + 1) * stretch_tokens, item_.key_count())};
  for (const Row& row : rows_) reset(row.sums);
  Step previous, step, next = following({.position = positions_.begin});
  while (previous.row || step.row || next.row) {
    run(previous, step, next);
    previous = std::exchange(step, next);
    if (next.row) next = following(next);
  }
}

// The first step is that which follows none.
AttentionPipeline::Step AttentionPipeline::following(const Step& step) const {
  Step next = step;
  const auto* row = step.row ? step.row + 1 : rows_.data();
  for (; next.position < positions_.end; next.position += kv_block_tokens, row = rows_.data())
    for (; row != rows_.data() + rows_.size(); ++row) {
      if (!row->unit.sees(next.position)) continue;
      next.row = row;
      next.number = step.number + 1;
      next.first = !step.row || next.position != step.position ||
                   row->unit.rows.group != step.row->unit.rows.group;
      next.block += next.first;
      return next;
    }
  return {};
}

void AttentionPipeline::run(const Step& previous, const Step& step, const Step& next) {
  // Half of what a head has to bring near goes with its values' panels, half with the products.
  const int64_t lines = step.first ? lines_of_head(step) : 0;
  if (step.first) turn_values(step, lines / 2);
  if (step.row) raise(step);
  const AttentionStep stages{scores(next), softmax(step), values(previous), &ahead_,
                             lines - lines / 2};
  engine_.tiles ? run_amx(stages) : run_avx512(stages);
}

// Begins with the next block where this one is new.
int64_t AttentionPipeline::lines_of_head(const Step& step) {
  const int64_t heads = static_cast<int64_t>(item_.groups.size());
  if (step.position != ahead_position_) {
    ahead_position_ = step.position;
    ahead_ = LinesAhead(op_, item_, step.position + kv_block_tokens);
  }
  return (ahead_.lines() + heads - 1) / heads;
}

HeadBlock AttentionPipeline::block_of(const Step& step, const Tensor& t, int64_t dim) const {
  const GroupRows& rows = step.row->unit.rows;
  const int64_t head = rows.group->kv_head;
  return {&t, rows.block(step.position), {head * dim, (head + 1) * dim}};
}

AttentionStep::Scores AttentionPipeline::scores(const Step& next) {
  if (!next.row) return {};
  const Unit& unit = next.row->unit;
  if (next.first) {
    const HeadBlock block = block_of(next, op_.keys, op_.heads.head_dim);
    const bool in_place = unit.rows.count() <= units_in_place * unit_rows;
    keys_ = block_panels(engine_, block, in_place, packed_keys_);
  }
  return {&keys_, next.row->queries, unit.columns(), stage(next).scores};
}

AttentionStep::Values AttentionPipeline::values(const Step& previous) const {
  if (!previous.row) return {};
  const Stage& from = stage(previous);
  const TurnedPanels& features = values_[previous.block % 2];
  RowLine* sums = previous.row->sums.values;
  const bool begun = previous.position > positions_.begin;
  if (begun && from.raised) shrink_values(sums, value_lines(features.count), *from.shrink);
  return {&features, from.weights, previous.row->unit.columns(), begun, sums};
}

void AttentionPipeline::turn_values(const Step& step, int64_t lines_ahead) {
  const HeadBlock block = block_of(step, op_.values, op_.heads.value_dim);
  TurnedPanels& values = values_[step.block % 2];
  values = turned_panels(engine_, block, turned_values_[step.block % 2]);
  const int64_t panels = value_lines(values.count) / block_rows;
  for (int64_t panel = 0; panel < panels; ++panel)
    turn(engine_, block, values, panel, ahead_, part(lines_ahead, panels, panel).size());
}

void AttentionPipeline::raise(const Step& step) {
  const Unit& unit = step.row->unit;
  Stage& to = stage(step);
  if (!unit.sees_all(step.position)) {
    alignas(line_bytes) RowLine seen;
    unit.seen(step.position, seen);
    hide_unseen(*to.scores, seen);
  }
  if (op_.dropout.active()) unit.mask(op_.dropout, op_.heads.first_head, step.position, *mask_);
  to.raised = softmax_raise(softmax(step), *to.shrink);
}

SoftmaxStep AttentionPipeline::softmax(const Step& step) const {
  if (!step.row) return {};
  const Stage& at = stage(step);
  return {.scores = at.scores,
          .sums = step.row->sums,
          .columns = step.row->unit.columns(),
          .scale = op_.heads.scale * log2_e,
          .mask = op_.dropout.active() ? mask_ : nullptr,
          .strip = at.weights};
}

}  // namespace tandem::cpu
