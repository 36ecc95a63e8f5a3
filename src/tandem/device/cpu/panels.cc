#include "tandem/device/cpu/panels.h"

#include <algorithm>

#include "tandem/device/cpu/int8_rows.h"

namespace tandem::cpu {
namespace {

ScaledView scales_of_rows(const Tensor& weight, int64_t first) {
  if (!eight_bits(weight.dtype)) return {};
  ScaledView view = scales_of(weight);
  view.row += first;
  return view;
}

}  // namespace

WeightRows weight_rows(const Tensor& weight, int64_t panel) {
  WeightRows rows{.row_step = weight.stride * size_of(weight.dtype)};
  for (int64_t h = 0; h < 2; ++h) {
    const int64_t first = panel * block_rows + h * 16;
    rows.count[h] = std::clamp<int64_t>(weight.rows - first, 0, 16);
    rows.half[h] = rows.count[h] > 0 ? weight.row_bytes(first) : nullptr;
    if (rows.count[h] > 0) rows.scales[h] = scales_of_rows(weight, first);
  }
  return rows;
}

WeightRows weight_rows(const Tensor& gate, const Tensor& up, int64_t panel) {
  TANDEM_CHECK(gate.stride == up.stride, "gate and up lie {} and {} apart", gate.stride, up.stride);
  WeightRows rows{.row_step = up.stride * size_of(up.dtype)};
  const int64_t first = panel * 16;
  rows.count[0] = rows.count[1] = std::clamp<int64_t>(up.rows - first, 0, 16);
  if (rows.count[0] > 0) {
    rows.half[0] = gate.row_bytes(first);
    rows.half[1] = up.row_bytes(first);
    rows.scales[0] = scales_of_rows(gate, first);
    rows.scales[1] = scales_of_rows(up, first);
  }
  return rows;
}

PackedRows packed_rows(const Engine& engine, int64_t rows, int64_t depth) {
  return {{nullptr, blocks_of(rows), engine.lines(depth)}, rows, depth};
}

PackedRows pack_rows(const Engine& engine, const RowsOf& from, Scratch& to) {
  PackedRows rows = packed_rows(engine, from.count(), from.cols);
  rows.strips.data = to.get<std::byte>(rows.strips.bytes());
  if (engine.quads)
    pack_strips(engine, as_int8(from, rows.factors), rows.strips);
  else
    pack_strips(engine, from, rows.strips);
  return rows;
}

PackedRows pack_columns(const Engine& engine, const RowsOf& from, Scratch& to) {
  PackedRows columns = packed_rows(engine, from.cols, from.count());
  columns.strips.data = to.get<std::byte>(columns.strips.bytes());
  pack_strips_transposed(engine, from, columns.strips);
  return columns;
}

int64_t rows_at_once(const Engine& engine, int64_t rows, int64_t depth, int threads) {
  constexpr int64_t cached_bytes = int64_t{1} << 20, most_blocks = 16;
  const int64_t strip_bytes = std::min(engine.lines(depth), lines_at_once) * strip_line_bytes;
  const int64_t most =
      std::clamp<int64_t>(cached_bytes / std::max<int64_t>(strip_bytes, 1), 1, most_blocks) *
      block_columns;
  // With few rows threads share the weights, with many they share the rows.
  int64_t chunks = std::max<int64_t>((rows + most - 1) / most, 1);
  if (rows >= 128 * threads) chunks = std::max<int64_t>(chunks, threads);
  return std::max<int64_t>(blocks_of((rows + chunks - 1) / chunks), 1) * block_rows;
}

PanelProduct::PanelProduct(const Engine& engine, const Interval& panels, const RowsAt& rows_at,
                           int64_t depth, const PackedRows& x, const Body& body)
    : engine_(engine),
      panels_(panels),
      rows_at_(rows_at),
      depth_(depth),
      x_(x),
      body_(body),
      blocks_(blocks_of(x.rows)),
      few_(engine.lies(x.rows)) {
  static thread_local Scratch scratch;
  constexpr int64_t most = 8;
  group_size_ = blocks_ > 1 && engine.lines(depth) > lines_at_once ? most : 1;
  // Sums that are complete after one step need two places, which stay in the first-level cache.
  const bool one_step =
      engine.lines(depth) <= lines_at_once && engine.whole_lines(depth) == engine.lines(depth);
  places_ = one_step ? 2 : group_size_ * blocks_;
  sums_ = sums_scratch(places_);
  packed_ = scratch.get<std::byte>(lines_at_once * block_rows * line_bytes);
  static thread_local Scratch factor_scratch;
  factors_ = engine.quads
                 ? factor_scratch.get<float>(factor_blocks(engine.lines(depth)) * block_rows)
                 : nullptr;
}

// A panel is packed first only where rows are missing or bf16 becomes f32.
bool PanelProduct::in_place(const WeightRows& rows) const { return rows.whole() && !engine_.widen; }

// The first step of a group's: its lines are those of the others. In place all whole ones may go at
// once; the last one, if it is not whole, is packed.
PanelProduct::Step PanelProduct::first_of(int64_t group, int64_t line) const {
  Step step{.group = group, .panel = group};
  if (at_end(step)) return step;
  step.rows = rows_at_.get(rows_at_.context, group);
  const int64_t whole = engine_.whole_lines(depth_);
  const bool at_once = line < whole && in_place(step.rows);
  const int64_t end = at_once ? whole : engine_.lines(depth_);
  step.lines = {line, at_once && blocks_ == 1 ? end : std::min(line + lines_at_once, end)};
  return step;
}

PanelProduct::Step PanelProduct::next(const Step& step) const {
  const int64_t group_end = std::min(step.group + group_size_, panels_.end);
  const int64_t panel = step.panel + 1;
  if (panel < group_end)
    return {step.group, panel, rows_at_.get(rows_at_.context, panel), step.lines};
  const bool ends = step.lines.end == engine_.lines(depth_);
  return ends ? first_of(group_end, 0) : first_of(step.group, step.lines.end);
}

void PanelProduct::list_rows(const WeightRows& rows, RowPointers& to) {
  for (int64_t r = 0; r < block_rows; ++r)
    to[r] = r % 16 < rows.count[r / 16] ? rows.half[r / 16] + r % 16 * rows.row_step : nullptr;
}

// For the blocks of some lines.
void PanelProduct::read_factors(const WeightRows& rows, const Interval& lines) {
  for (int64_t block = lines.begin / int8_block_lines; block < factor_blocks(lines.end); ++block)
    for (int64_t half = 0; half < 2; ++half) {
      const ScaledView& scales = rows.scales[half];
      float* const to = factors_ + block * block_rows + half * 16;
      const int64_t column = block * scale_block, count = rows.count[half];
      if (count == 16 && scales.row % scale_block <= scale_block - 16)  // all in one block
        std::fill_n(to, 16, scales.factor(0, column));
      else
        for (int64_t r = 0; r < 16; ++r) to[r] = r < count ? scales.factor(r, column) : 0;
    }
}

// Finds the rows of a step, and packs them where they cannot be used in place.
void PanelProduct::begin(const Step& step) {
  const WeightRows& rows = step.rows;
  const int64_t line_depth = engine_.depth_of_line();
  if (engine_.quads) read_factors(rows, step.lines);
  if (in_place(rows) && step.lines.end * line_depth <= depth_) {
    const int64_t offset = step.lines.begin * line_bytes;
    panel_ = {{rows.half[0] + offset, rows.half[1] + offset}, rows.row_step, line_bytes};
    return;
  }
  RowPointers list;
  list_rows(rows, list);
  const Interval columns{step.lines.begin * line_depth,
                         std::min(step.lines.end * line_depth, depth_)};
  pack_panel(engine_, RowsOf{list, depth_}.columns(columns), packed_);
  panel_ = packed_panel();
}

void PanelProduct::hand_on(int end) {
  if (done_.step == end) return;
  body_.run(body_.context, done_.panel, *done_.sums, x_rows(done_.block), {done_.step, end});
  done_.step = end;
}

void PanelProduct::look_ahead(const Step& next) {
  constexpr int64_t few_blocks = 4;  // with more, the processor's own prefetching keeps up
  ahead_ = {};
  if (at_end(next) || blocks_ > few_blocks || !next.rows.whole()) return;
  constexpr int64_t most_passes = 4;
  const int64_t lines = next.lines.size();
  ahead_.rows = next.rows;
  ahead_.lines = next.lines;
  if (engine_.brings) return;
  ahead_.passes = std::min(most_passes, lines);
  ahead_.pass_steps = lines / ahead_.passes;
  ahead_.at_once = (lines + ahead_.pass_steps - 1) / ahead_.pass_steps;
}

// Each block brings its share of the rows, some with each line it multiplies: every fourth row, a
// few lines of it at once, then the rows behind these. The processor's own prefetching follows one
// run of lines in a page of memory, and rows of less than a page share it.
void PanelProduct::bring_near() {
  if (ahead_.passes == 0) return;
  const int64_t pass = lines_done_ / ahead_.pass_steps;
  if (pass >= ahead_.passes) return;
  const int64_t first =
      ahead_.lines.begin + (lines_done_ - pass * ahead_.pass_steps) * ahead_.at_once;
  const int64_t end = std::min(first + ahead_.at_once, ahead_.lines.end);
  const Interval rows = part(block_rows, blocks_, block_);
  for (int64_t r = rows.begin + pass; r < rows.end; r += ahead_.passes)
    for (int64_t line = first; line < end; ++line)
      __builtin_prefetch(ahead_.rows.row(r) + line * line_bytes, 0, 2);
}

namespace {

// Rows of a panel that are read beside each other in one go: so few that they and the next ones
// find room in the first-level cache.
int64_t rows_in_order(int64_t lines) {
  constexpr int64_t cached_bytes = 32 << 10;
  return block_rows * lines * line_bytes <= cached_bytes ? block_rows : 16;
}

}  // namespace

// From a row on, so many lines at a time.
Run PanelProduct::run_of(const WeightRows& rows, int64_t first, const Interval& lines,
                         int64_t at_once) {
  if (!rows.whole() || lines.empty()) return {};
  const int64_t pieces = (lines.size() + at_once - 1) / at_once;
  return {.at = rows.row(first) + lines.begin * line_bytes,
          .pieces_of_row = pieces,
          .row_gap = rows.row_step - pieces * at_once * line_bytes};
}

// Nothing goes on yet beside which the first panel could be brought.
void PanelProduct::bring_first(const Step& step) {
  look_ahead(step);
  if (engine_.brings) {
    const int64_t bytes = ahead_.lines.size() * line_bytes;
    const int64_t rows = few_ ? rows_in_order(step.lines.size()) : block_rows;
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t i = 0; i < bytes; i += line_bytes)
        __builtin_prefetch(ahead_.rows.row(row) + ahead_.lines.begin * line_bytes + i);
    return;
  }
  for (lines_done_ = 0; lines_done_ < ahead_.lines.size(); ++lines_done_)
    for (block_ = 0; block_ < blocks_; ++block_) bring_near();
}

void PanelProduct::during() {
  bring_near();
  ++lines_done_;
  if (done_.step < hand_on_steps) hand_on(static_cast<int>(hand_on_steps * lines_done_ / lines_));
}

Int8Factors PanelProduct::factors_of(const Step& step, int64_t block) const {
  Int8Factors factors = x_.factors;
  const int64_t first = step.lines.begin / int8_block_lines;
  const int64_t at = first * factors.columns_step + block * block_columns;
  factors.rows = factors_ + first * block_rows;
  factors.columns += at;
  factors.excess += at;
  return factors;
}

void PanelProduct::multiply(const Step& step, int64_t block) {
  Sums& sums = sums_[((step.panel - step.group) * blocks_ + block) % places_];
  lines_ = step.lines.size();
  lines_done_ = 0;
  block_ = block;
  engine_.lies(x_rows(block).size()) ? multiply_few(step, block, sums[0])
                                     : multiply_block(step, block, sums[0]);
  if (step.lines.end == engine_.lines(depth_)) done_ = {step.panel, block, &sums, 0};
}

void PanelProduct::multiply_block(const Step& step, int64_t block, float* sums) {
  // In place, rows far apart compete for few places in the first-level cache: copies do not, but
  // for one or two blocks they cost more than they save.
  constexpr int64_t few_blocks = 2;
  const bool rows_apart = panel_.row_step > line_bytes;
  std::byte* const copy = engine_.tiles && blocks_ > few_blocks && rows_apart ? packed_ : nullptr;
  if (copy && block > 0) panel_ = packed_panel();
  const auto near = [&](int64_t half) {
    const Interval rows = part(block_rows, blocks_, block);
    return run_of(ahead_.rows, rows.begin + half * rows.size() / 2, ahead_.lines, 8);
  };
  engine_.multiply(
      {.a = panel_,
       .b = x_.strips.at(block, step.lines.begin),
       .columns = static_cast<int>(x_rows(block).size()),
       .lines = lines_,
       .c = sums,
       .accumulate = step.lines.begin > 0,
       .meanwhile = {[](void* self) { static_cast<PanelProduct*>(self)->during(); }, this},
       .near = {near(0), near(1)},
       .turns = static_cast<int>(blocks_),
       .factors = engine_.quads ? factors_of(step, block) : Int8Factors{},
       .copy = block == 0 ? copy : nullptr});
}

// The next rows are brought near meanwhile: these are read beside each other, which the processor's
// own prefetching does not keep up with.
void PanelProduct::multiply_few(const Step& step, int64_t block, float* sums) {
  hand_on(hand_on_steps);
  FewProduct product{.a = panel_,
                     .b = x_.strips.at(block, step.lines.begin),
                     .columns = static_cast<int>(x_rows(block).size()),
                     .lines = lines_,
                     .c = sums,
                     .accumulate = step.lines.begin > 0,
                     .factors = engine_.quads ? factors_of(step, block) : Int8Factors{}};
  const Run next[2] = {run_of(ahead_.rows, 0, ahead_.lines, 16),
                       run_of(ahead_.rows, 16, ahead_.lines, 16)};
  if (!few_ || rows_in_order(lines_) == block_rows) {
    std::copy_n(next, 2, product.near);
    return engine_.multiply_few(product);
  }
  product.rows = 16;
  product.near[0] = run_of(step.rows, 16, step.lines, 16);
  engine_.multiply_few(product);
  product.a.half[0] = panel_.half[1];
  product.c += 16;
  product.factors = product.factors.from_row(16);
  product.near[0] = next[0];
  engine_.multiply_few(product);
}

void PanelProduct::run() {
  if (panels_.empty() || blocks_ == 0) return;
  Step step = first_of(panels_.begin, 0);
  bring_first(step);
  while (!at_end(step)) {
    const Step after = next(step);
    begin(step);
    look_ahead(after);
    for (int64_t block = 0; block < blocks_; ++block) multiply(step, block);
    step = after;
  }
  hand_on(hand_on_steps);
}

Sums* sums_scratch(int64_t blocks) {
  static thread_local Scratch scratch;
  return scratch.get<Sums>(blocks);
}

}  // namespace tandem::cpu
