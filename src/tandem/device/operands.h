// What several operations are given beside tensors: picked rows, masks.
#pragma once

#include <cstdint>
#include <span>

#include "tandem/base/random.h"
#include "tandem/device/tensor.h"

namespace tandem {

// One row of one of several tensors; source < 0 stands for no row.
struct RowRef {
  int32_t source = -1;
  int32_t row = 0;
};

// Rows picked from several tensors of equal width and dtype.
struct RowList {
  std::span<const Tensor> sources;
  std::span<const RowRef> rows;
  int64_t size() const { return static_cast<int64_t>(rows.size()); }
  int64_t cols() const { return sources.empty() ? 0 : sources[0].cols; }
  int64_t row_bytes() const { return sources.empty() ? 0 : cols() * size_of(sources[0].dtype); }
};

// A mask drawn from (seed, stream, step, layer) by RandomSource: element (key of the row, feature)
// is kept when uniform(key, feature) >= probability, and then scaled by 1 / (1 - probability).
struct Dropout {
  float probability = 0;
  uint64_t seed = 0;
  RandomStream stream = RandomStream::hidden_dropout;
  uint32_t step = 0;
  uint32_t layer = 0;
  std::span<const uint64_t> keys;  // one a row; may be empty when probability is 0
  int64_t first_feature = 0;       // feature number of column 0 (a slice of a split expert)
  bool active() const { return probability > 0; }
  RandomSource source() const { return {seed, stream, step, layer}; }
};

}  // namespace tandem
