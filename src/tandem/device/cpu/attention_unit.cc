#include "tandem/device/cpu/attention_unit.h"

#include "tandem/device/cpu/store.h"

#include "tandem/device/cpu/random_lanes.h"

namespace tandem::cpu {

void Unit::seen(int64_t position, RowLine& to) const {
  for (int64_t lane = 0; lane < unit_rows; ++lane) {
    const int64_t row = std::min(some.begin + lane, some.end - 1);
    to[lane] = static_cast<float>(rows.seen(row, position));
  }
}

std::span<std::byte* const> Unit::pointers(const Tensor& t, int64_t dim, Pointers& to) const {
  for (int64_t lane = 0; lane < count(); ++lane)
    to[lane] = t.row_bytes(tensor_row(lane)) + head(lane) * dim * size_of(t.dtype);
  return {to, static_cast<size_t>(count())};
}

void Unit::mask(const Dropout& dropout, int64_t first_head, int64_t position,
                BlockScores& to) const {
  float factors[kv_block_tokens];
  for (int64_t lane = 0; lane < count(); ++lane) {
    const uint64_t key = rows.dropout_key(dropout, first_head, some.begin + lane);
    dropout_mask(dropout.source(), dropout.probability, {&key, 1},
                 {position, position + kv_block_tokens}, factors, kv_block_tokens);
    for (int64_t j = 0; j < kv_block_tokens; ++j) to[j][lane] = factors[j];
  }
}

void pack_unit(const Engine& engine, const Unit& unit, const Tensor& t, int64_t dim,
               std::byte* to) {
  Unit::Pointers rows;
  const auto list = unit.pointers(t, dim, rows);
  pack_strips(engine, {{list.data(), list.size()}, dim}, {to, 1, engine.lines(dim)});
}

void store_unit(const Unit& unit, RowLine* lines, int64_t dim, const Tensor& to) {
  Unit::Pointers rows;
  Target target{.rows = unit.pointers(to, dim, rows), .dtype = to.dtype};
  for (; target.first < dim; target.first += block_rows) {
    target.cols = std::min(block_rows, dim - target.first);
    store_block_transposed(lines + target.first, target);
  }
}

}  // namespace tandem::cpu
