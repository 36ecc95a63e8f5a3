// Attention in double, one query, head and key at a time, and the set-up its tests share.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "device/matrices.h"
#include "tandem/device/operations.h"

namespace tandem::testing {

struct AttentionSizes {
  DType dtype = DType::f32;
  int64_t head_dim = 16;
  int64_t value_dim = 0;  // 0: as head_dim
  std::vector<int32_t> kv_head{0};
  std::vector<Interval> positions;  // of the queries, one interval a sequence
  float dropout = 0;
  int64_t padding = 0;
  bool latent = false;  // values are the first columns of the keys
  int64_t kv_heads() const { return *std::max_element(kv_head.begin(), kv_head.end()) + 1; }
  int64_t heads() const { return static_cast<int64_t>(kv_head.size()); }
};

// Tensors and host arrays of one call. Keys and values lie in blocks in random order; where no key
// is there is NaN, or no memory at all.
struct AttentionCase {
  AttentionCase(Random& random, AttentionSizes given, bool contiguous = false)
      : sizes(std::move(given)) {
    int64_t queries = 0, blocks = 0;
    for (const Interval& p : sizes.positions) {
      queries += p.size();
      blocks += kv_blocks(p.end);
    }
    std::vector<int32_t> order(static_cast<size_t>(blocks));
    std::iota(order.begin(), order.end(), 0);
    if (!contiguous) std::shuffle(order.begin(), order.end(), random);

    size_t next = 0;
    int64_t row = 0, rows = 0;
    block_rows.resize(sizes.positions.size());
    for (size_t s = 0; s < sizes.positions.size(); ++s) {
      const Interval& p = sizes.positions[s];
      for (int64_t first = 0; first < p.end; first += kv_block_tokens) {
        const int64_t block_row = kv_block_tokens * order[next++];
        block_rows[s].push_back(static_cast<int32_t>(block_row));
        rows = std::max(rows, block_row + std::min(kv_block_tokens, p.end - first));
      }
      sequences.push_back({{row, row + p.size()}, p.begin, block_rows[s]});
      row += p.size();
    }
    if (sizes.value_dim == 0) sizes.value_dim = sizes.head_dim;
    const int64_t kv_heads = sizes.kv_heads();
    q = random_matrix(random, queries, sizes.heads() * sizes.head_dim, sizes.dtype, sizes.padding);
    out = make_matrix(queries, sizes.heads() * sizes.value_dim, sizes.dtype, sizes.padding);
    logsumexp = make_matrix(queries, sizes.heads(), DType::f32);
    keys = make_matrix(rows, kv_heads * sizes.head_dim, sizes.dtype, sizes.padding);
    values = sizes.latent
                 ? keys.slice_cols({0, sizes.value_dim})
                 : make_matrix(rows, kv_heads * sizes.value_dim, sizes.dtype, sizes.padding);
    std::normal_distribution<float> normal;
    for (const AttentionSequence& s : sequences) {
      for (int64_t j = 0; j < s.key_count(); ++j) {
        for (const Tensor* t : {&keys, &values}) {
          for (int64_t i = 0; i < t->cols; ++i) set_element(*t, key_row(s, j), i, normal(random));
        }
      }
    }
    for (int64_t i = 0; i < queries; ++i) dropout_keys.push_back(random());
  }

  static int64_t key_row(const AttentionSequence& s, int64_t position) {
    return s.block_rows[static_cast<size_t>(position / kv_block_tokens)] +
           position % kv_block_tokens;
  }
  AttentionHeads head_set() const {
    return {sizes.head_dim, sizes.value_dim, sizes.kv_head, 3,
            1 / std::sqrt(static_cast<float>(sizes.head_dim))};
  }
  Dropout dropout() const {
    return {sizes.dropout, 7, RandomStream::attention_dropout, 2, 1, dropout_keys};
  }
  Attention operation() const {
    return {q, keys, values, out, logsumexp, sequences, head_set(), dropout()};
  }

  AttentionSizes sizes;
  std::vector<std::vector<int32_t>> block_rows;
  std::vector<AttentionSequence> sequences;
  std::vector<uint64_t> dropout_keys;
  Tensor q, keys, values, out, logsumexp;
};

// Probabilities of one query and head over the keys it sees, and the mask upon them.
struct ReferenceRow {
  std::vector<double> p, mask;
  double logsumexp = 0;
};
inline ReferenceRow reference_row(const AttentionCase& c, const AttentionSequence& s, int64_t i,
                                  int64_t h) {
  const AttentionHeads heads = c.head_set();
  const int64_t d = heads.head_dim, row = s.query_rows.begin + i;
  const int64_t col = heads.kv_head[static_cast<size_t>(h)] * d;
  ReferenceRow result;
  for (int64_t j = 0; j <= s.first_position + i; ++j) {
    double score = 0;
    for (int64_t k = 0; k < d; ++k) {
      score += static_cast<double>(element(c.q, row, h * d + k)) *
               static_cast<double>(element(c.keys, c.key_row(s, j), col + k));
    }
    result.p.push_back(score * static_cast<double>(heads.scale));
  }
  const double most = *std::max_element(result.p.begin(), result.p.end());
  double sum = 0;
  for (const double score : result.p) sum += std::exp(score - most);
  result.logsumexp = most + std::log(sum);
  const Dropout dropout = c.dropout();
  for (size_t j = 0; j < result.p.size(); ++j) {
    result.p[j] = std::exp(result.p[j] - result.logsumexp);
    const uint64_t key =
        mix(dropout.keys[static_cast<size_t>(row)], static_cast<uint64_t>(heads.first_head + h));
    const bool kept = !dropout.active() || dropout.source().uniform(key, j) >= dropout.probability;
    result.mask.push_back(kept ? 1 / (1 - static_cast<double>(dropout.probability)) : 0);
  }
  return result;
}

// body(sequence, query of the sequence, head)
template <class Body>
void for_rows(const AttentionCase& c, const Body& body) {
  for (const AttentionSequence& s : c.sequences) {
    for (int64_t i = 0; i < s.query_rows.size(); ++i) {
      for (int64_t h = 0; h < c.sizes.heads(); ++h) body(s, i, h);
    }
  }
}

using Doubles = std::vector<double>;

inline Doubles reference_attention(const AttentionCase& c) {
  const int64_t d = c.sizes.value_dim;
  Doubles out(static_cast<size_t>(c.out.elements()));
  for_rows(c, [&](const AttentionSequence& s, int64_t i, int64_t h) {
    const ReferenceRow row = reference_row(c, s, i, h);
    const int64_t col = c.sizes.kv_head[static_cast<size_t>(h)] * d;
    double* to = &out[static_cast<size_t>((s.query_rows.begin + i) * c.out.cols + h * d)];
    for (size_t j = 0; j < row.p.size(); ++j) {
      const int64_t key = c.key_row(s, static_cast<int64_t>(j));
      for (int64_t k = 0; k < d; ++k) {
        to[k] += row.p[j] * row.mask[j] * static_cast<double>(element(c.values, key, col + k));
      }
    }
  });
  return out;
}

struct ReferenceGradients {
  Doubles dq, dkeys, dvalues;
};
inline ReferenceGradients reference_gradients(const AttentionCase& c, const Tensor& dout) {
  const int64_t d = c.sizes.head_dim, value_d = c.sizes.value_dim;
  ReferenceGradients g{Doubles(static_cast<size_t>(c.q.elements())),
                       Doubles(static_cast<size_t>(c.keys.elements())),
                       Doubles(static_cast<size_t>(c.values.elements()))};
  for_rows(c, [&](const AttentionSequence& s, int64_t i, int64_t h) {
    const ReferenceRow row = reference_row(c, s, i, h);
    const int64_t query = s.query_rows.begin + i, kv_head = c.sizes.kv_head[static_cast<size_t>(h)];
    const int64_t col = h * d, key_col = kv_head * d, value_col = kv_head * value_d;
    Doubles dp(row.p.size());
    double mean = 0;
    for (size_t j = 0; j < row.p.size(); ++j) {
      const int64_t key = c.key_row(s, static_cast<int64_t>(j));
      for (int64_t k = 0; k < value_d; ++k) {
        const double upper = static_cast<double>(element(dout, query, h * value_d + k));
        dp[j] += row.mask[j] * upper * static_cast<double>(element(c.values, key, value_col + k));
        g.dvalues[static_cast<size_t>(key * c.values.cols + value_col + k)] +=
            row.p[j] * row.mask[j] * upper;
      }
      mean += row.p[j] * dp[j];
    }
    for (size_t j = 0; j < row.p.size(); ++j) {
      const int64_t key = c.key_row(s, static_cast<int64_t>(j));
      const double ds = row.p[j] * (dp[j] - mean) * static_cast<double>(c.head_set().scale);
      for (int64_t k = 0; k < d; ++k) {
        g.dq[static_cast<size_t>(query * c.q.cols + col + k)] +=
            ds * static_cast<double>(element(c.keys, key, key_col + k));
        g.dkeys[static_cast<size_t>(key * c.keys.cols + key_col + k)] +=
            ds * static_cast<double>(element(c.q, query, col + k));
      }
    }
  });
  return g;
}

// Largest difference beside the largest number there is.
inline double relative_error(const Tensor& t, const Doubles& expected) {
  double error = 0, size = 1e-30;
  for (int64_t i = 0; i < t.rows; ++i) {
    for (int64_t j = 0; j < t.cols; ++j) {
      const double wanted = expected[static_cast<size_t>(i * t.cols + j)];
      const double difference = std::abs(static_cast<double>(element(t, i, j)) - wanted);
      error = std::isnan(difference) ? INFINITY : std::max(error, difference);
      size = std::max(size, std::abs(wanted));
    }
  }
  return error / size;
}

}  // namespace tandem::testing
