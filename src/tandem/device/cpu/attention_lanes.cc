// Attention in f32, whatever the dtype: for each block in order 64 scores (those of positions a row
// may not see are -infinity), their maximum and exponentials in a fixed structure of lanes, then
// the values it sees, one by one.
#include <cmath>
#include <limits>
#include <utility>

#include "tandem/device/cpu/attention_kernels.h"
#include "tandem/device/cpu/random_lanes.h"
#include "tandem/device/cpu/scratch.h"
#include "tandem/device/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tandem/device/cpu/attention_lanes.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "tandem/device/cpu/kv_scores-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tandem::cpu::HWY_NAMESPACE {
namespace {

constexpr float minus_infinity = -std::numeric_limits<float>::infinity();

// Turns the 64 scores of a row into exponentials; brings the row's sums to the new maximum.
HWY_INLINE void softmax_step(float* scores, int64_t seen, float& most, float& weight, float* sum,
                             int64_t width) {
  const F32 d;
  const int64_t step = lane_count();
  auto top = hn::Set(d, minus_infinity);
  for (int64_t j = 0; j < kv_block_tokens; j += step) {
    auto v = hn::Load(d, scores + j);
    if (j + step > seen) {
      v = keep(v, First{seen > j ? seen - j : 0}, minus_infinity);
      hn::Store(v, d, scores + j);
    }
    top = hn::Max(top, v);
  }
  const float new_most = std::max(most, max_lanes(top));
  const auto shift = hn::Set(d, new_most);
  auto total = hn::Zero(d);
  for (int64_t j = 0; j < kv_block_tokens; j += step) {
    const auto e = exp_lanes(hn::Sub(hn::Load(d, scores + j), shift));
    hn::Store(e, d, scores + j);
    total = hn::Add(total, e);
  }
  const auto shrink = exp_lanes(hn::Set(d, most - new_most));
  weight = hn::GetLane(hn::MulAdd(hn::Set(d, weight), shrink, hn::SumOfLanes(d, total)));
  if (new_most == most) return;  // shrink is exactly 1
  most = new_most;
  for (int64_t i = 0; i < width; i += step) {
    hn::Store(hn::Mul(shrink, hn::Load(d, sum + i)), d, sum + i);
  }
}

// The rows of an item, group by group, and what is known of them so far.
template <class T>
class ItemKernel {
 public:
  ItemKernel(const Attention& op, const AttentionItem& item)
      : op_(op),
        item_(item),
        d_(op.heads.head_dim),
        value_d_(op.heads.value_dim),
        width_(padded(value_d_)) {
    int64_t most_rows = 0;
    for (size_t g = 0; g < item.groups.size(); ++g) {
      count_ += item.rows(g).count();
      most_rows = std::max(most_rows, item.rows(g).count());
    }
    static thread_local Scratch scratch;
    const int64_t block = kv_block_tokens;
    float* next = scratch.get<float>(count_ * (d_ + width_ + 2) + 4 * row_padding + padded(d_) +
                                     block * (d_ + width_ + most_rows + 1));
    const auto take = [&](int64_t size) { return std::exchange(next, next + padded(size)); };
    keys_ = take(block * d_);
    values_ = take(block * width_);
    scores_ = take(most_rows * block);
    mask_ = take(block);
    zeros_ = take(d_);
    all_ = {.q = take(count_ * d_),
            .sum = take(count_ * width_),
            .most = take(count_),
            .weight = take(count_)};
  }

  void run() {
    std::fill_n(zeros_, d_, 0.0f);
    std::fill_n(all_.sum, count_ * width_, 0.0f);
    std::fill_n(all_.most, count_, minus_infinity);
    std::fill_n(all_.weight, count_, 0.0f);
    for_groups([&](size_t) { read_queries(); });
    const int64_t key_count = item_.rows(0).key_count();
    for (int64_t position = 0; position < key_count; position += kv_block_tokens) {
      for_groups([&](size_t g) { block(g, position); });
    }
    for_groups([&](size_t) { write_rows(); });
  }

 private:
  struct State {
    float* q = nullptr;       // [rows, d], scaled
    float* sum = nullptr;     // [rows, padded value_d], of the values so far
    float* most = nullptr;    // largest score so far
    float* weight = nullptr;  // sum of exp(score - most) so far
  };

  // body(g) with rows_ and state_ those of group g.
  template <class Body>
  void for_groups(const Body& body) {
    int64_t first = 0;
    for (size_t g = 0; g < item_.groups.size(); ++g) {
      rows_ = item_.rows(g);
      state_ = {all_.q + first * d_, all_.sum + first * width_, all_.most + first,
                all_.weight + first};
      body(g);
      first += rows_.count();
    }
  }

  // Brings the next block on its way in the order in which it lies in memory: over all groups, 64
  // calls each.
  HWY_INLINE void prefetch_next(size_t group, int64_t call, int64_t position) const {
    const Interval next = rows_.block(position + kv_block_tokens);
    const int64_t groups = static_cast<int64_t>(item_.groups.size());
    const int64_t piece = static_cast<int64_t>(group) * kv_block_tokens + call;
    if (piece / groups >= next.size()) return;
    const int64_t row = next.begin + piece / groups;
    const int64_t head = item_.groups[static_cast<size_t>(piece % groups)].kv_head;
    prefetch(op_.keys.row<T>(row) + head * d_, d_);
    prefetch(op_.values.row<T>(row) + head * value_d_, value_d_);
  }

  void read_queries() {
    const auto scaled = hn::Set(F32(), op_.heads.scale);
    for (int64_t i = 0; i < rows_.count(); ++i) {
      const T* from = op_.q.row<T>(rows_.tensor_row(i)) + rows_.head(i) * d_;
      float* to = state_.q + i * d_;
      for_lanes(d_, [&](int64_t j, auto p)
                        HWY_ATTR { store(hn::Mul(scaled, load(from + j, p)), to + j, p); });
    }
  }

  void block(size_t group, int64_t position) {
    const int64_t head = rows_.group->kv_head;
    const auto values = block_rows<T>(op_.values, rows_.block(position), head * value_d_);
    const RowPointers<T> keys(block_rows<T>(op_.keys, rows_.block(position), head * d_),
                              reinterpret_cast<const T*>(zeros_));
    const auto ahead = [&](int64_t j) HWY_ATTR { prefetch_next(group, j, position); };
    const Interval seeing = rows_.seeing(position);
    const Left q{state_.q + seeing.begin * d_, d_, 1};
    if (few_queries<T>(seeing.size(), d_)) {
      score_in_place(keys, d_, q, seeing.size(), scores_, ahead);
    } else {
      for (int64_t j = 0; j < kv_block_tokens; ++j) ahead(j);
      pack_transposed(keys, d_, keys_);
      product(q, Right<float>{keys_, kv_block_tokens}, {scores_, kv_block_tokens}, seeing.size(),
              d_, kv_block_tokens, false);
    }
    for (int64_t i = seeing.begin; i < seeing.end; ++i) {
      float* scores = scores_ + (i - seeing.begin) * kv_block_tokens;
      softmax_step(scores, rows_.seen(i, position), state_.most[i], state_.weight[i],
                   state_.sum + i * width_, width_);
      if (op_.dropout.active()) drop(i, position, scores);
    }
    // Values that few rows use are read where they are.
    const bool in_place = seeing.size() <= 2 * tile_rows && width_ == value_d_;
    if (!in_place) pack(values, value_d_, values_);
    for (int64_t i = seeing.begin; i < seeing.end; i += tile_rows) {
      const Interval tile{i, std::min(seeing.end, i + tile_rows)};
      const float* weights = scores_ + (i - seeing.begin) * kv_block_tokens;
      if (in_place) {
        add_values(tile, position, weights, Right<T>{values.data, values.stride});
      } else {
        add_values(tile, position, weights, Right<float>{values_, width_});
      }
    }
  }

  // What all rows of the tile see, then what the later ones see beyond that.
  template <class V>
  void add_values(Interval tile, int64_t position, const float* weights, Right<V> values) {
    const int64_t common = rows_.seen(tile.begin, position);
    const Left p{weights, kv_block_tokens, 1};
    const Packed sum{state_.sum + tile.begin * width_, width_};
    product(p, values, sum, tile.size(), common, width_, true);
    for (int64_t i = 0; i < tile.size(); ++i) {
      const int64_t more = rows_.seen(tile.begin + i, position) - common;
      if (more == 0) continue;
      product(p.below(i).after(common), Right<V>{values.data + common * values.row, values.row},
              {sum.data + i * width_, width_}, 1, more, width_, true);
    }
  }

  void drop(int64_t i, int64_t position, float* scores) {
    const F32 d;
    const uint64_t key = rows_.dropout_key(op_.dropout, op_.heads.first_head, i);
    dropout_mask(op_.dropout.source(), op_.dropout.probability, {&key, 1},
                 {position, position + kv_block_tokens}, mask_, kv_block_tokens);
    for (int64_t j = 0; j < kv_block_tokens; j += lane_count()) {
      hn::Store(hn::Mul(hn::Load(d, scores + j), hn::Load(d, mask_ + j)), d, scores + j);
    }
  }

  void write_rows() {
    for (int64_t i = 0; i < rows_.count(); ++i) {
      const int64_t row = rows_.tensor_row(i), head = rows_.head(i);
      const float* sum = state_.sum + i * width_;
      const auto share = hn::Set(F32(), 1 / state_.weight[i]);
      T* out = op_.out.row<T>(row) + head * value_d_;
      for_lanes(value_d_, [&](int64_t j, auto p)
                              HWY_ATTR { store(hn::Mul(load(sum + j, p), share), out + j, p); });
      if (op_.logsumexp.empty()) continue;
      op_.logsumexp.row<float>(row)[head] = state_.most[i] + std::log(state_.weight[i]);
    }
  }

  const Attention& op_;
  const AttentionItem& item_;
  int64_t d_, value_d_, width_, count_ = 0;
  float *keys_, *values_;  // of one block and group: [d, 64] and [64, padded value_d]
  float *scores_, *mask_, *zeros_;
  State all_, state_;
  GroupRows rows_;
};

void item_kernel(const Attention& op, const AttentionItem& item) {
  if (op.q.dtype == DType::bf16) {
    ItemKernel<bfloat16>(op, item).run();
  } else {
    ItemKernel<float>(op, item).run();
  }
}

}  // namespace
}  // namespace tandem::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tandem::cpu {

HWY_EXPORT(item_kernel);

void attention_lanes(const Attention& op, const AttentionItem& item) {
  HWY_DYNAMIC_DISPATCH(item_kernel)(op, item);
}

}  // namespace tandem::cpu
#endif  // HWY_ONCE
