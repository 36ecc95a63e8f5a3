// Attention by blocks of keys and values with an online softmax (Dao et al., "FlashAttention",
// 2022).
//
// A row is one query of one head. Whatever the other rows are, a row goes through the same steps:
// for each block in order 64 scores (those of positions it may not see are -infinity), their
// maximum and exponentials in a fixed structure of lanes, then the values it sees, one by one.
#include <cmath>
#include <limits>
#include <utility>

#include "tandem/device/cpu/attention_work.h"
#include "tandem/device/cpu/kernels.h"
#include "tandem/device/cpu/parallel.h"
#include "tandem/device/cpu/random_lanes.h"
#include "tandem/device/cpu/scratch.h"
#include "tandem/device/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tandem/device/cpu/attention.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "tandem/device/cpu/kv_block-inl.h"

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

// One item: its rows group by group, in a group query by query, and what is known of them so far.
template <class T>
class ItemKernel {
 public:
  ItemKernel(const Attention& op, std::span<const HeadGroup> groups, const AttentionItem& item)
      : op_(op), groups_(groups), item_(item), d_(op.heads.head_dim), width_(padded(d_)) {
    int64_t most_rows = 0;
    for_groups([&](const GroupRows& rows, int64_t) {
      rows_ += rows.count();
      most_rows = std::max(most_rows, rows.count());
    });
    static thread_local Scratch scratch;
    float* next = scratch.get<float>(rows_ * (d_ + width_ + 2) + 6 * row_padding + width_ +
                                     kv_block_tokens * (d_ + width_ + most_rows + 1));
    const auto take = [&](int64_t count) { return std::exchange(next, next + padded(count)); };
    keys_ = take(d_ * kv_block_tokens);
    values_ = take(width_ * kv_block_tokens);
    scores_ = take(most_rows * kv_block_tokens);
    mask_ = take(kv_block_tokens);
    zeros_ = take(width_);
    sum_ = take(rows_ * width_);
    q_ = take(rows_ * d_);
    most_ = take(rows_);
    weight_ = take(rows_);
  }

  void run() {
    std::fill_n(zeros_, width_, 0.0f);
    std::fill_n(sum_, rows_ * width_, 0.0f);
    std::fill_n(most_, rows_, minus_infinity);
    std::fill_n(weight_, rows_, 0.0f);
    for_groups([&](const GroupRows& rows, int64_t first) { read_queries(rows, first); });
    const int64_t key_count = item_.sequence->first_position + item_.queries.end;
    for (int64_t position = 0; position < key_count; position += kv_block_tokens) {
      for_groups([&](const GroupRows& rows, int64_t first) { block(rows, first, position); });
    }
    for_groups([&](const GroupRows& rows, int64_t first) { write_rows(rows, first); });
  }

 private:
  // body(rows of a group, number of the first one in the item)
  template <class Body>
  void for_groups(const Body& body) {
    int64_t first = 0;
    for (const HeadGroup& group : groups_) {
      const GroupRows rows{item_.sequence, &group, item_.queries};
      body(rows, first);
      first += rows.count();
    }
  }

  void read_queries(const GroupRows& rows, int64_t first) {
    const auto scaled = hn::Set(F32(), op_.heads.scale);
    for (int64_t i = 0; i < rows.count(); ++i) {
      const T* from = op_.q.row<T>(rows.tensor_row(i)) + rows.head(i) * d_;
      float* to = q_ + (first + i) * d_;
      for_lanes(d_, [&](int64_t j, auto p)
                        HWY_ATTR { store(hn::Mul(scaled, load(from + j, p)), to + j, p); });
    }
  }

  void block(const GroupRows& rows, int64_t first, int64_t position) {
    const int64_t next = position + kv_block_tokens, col = rows.group->kv_head * d_;
    const auto values = block_rows<T>(op_.values, rows.block(position), col);
    const auto next_keys = block_rows<T>(op_.keys, rows.block(next), col);
    const auto next_values = block_rows<T>(op_.values, rows.block(next), col);
    pack_transposed(block_rows<T>(op_.keys, rows.block(position), col), d_,
                    reinterpret_cast<const T*>(zeros_), keys_, [&](int64_t j) HWY_ATTR {
                      prefetch(next_keys, j, d_);
                      prefetch(next_values, j, d_);
                    });
    const Interval seeing = rows.seeing(position);
    product({q_ + (first + seeing.begin) * d_, d_, 1}, Right<float>{keys_, kv_block_tokens},
            {scores_, kv_block_tokens}, seeing.size(), d_, kv_block_tokens, false);
    for (int64_t i = seeing.begin; i < seeing.end; ++i) {
      float* scores = scores_ + (i - seeing.begin) * kv_block_tokens;
      softmax_step(scores, rows.seen(i, position), most_[first + i], weight_[first + i],
                   sum_ + (first + i) * width_, width_);
      if (op_.dropout.active()) drop(rows, i, position, scores);
    }
    // Values that few rows use are read where they are.
    const bool in_place = seeing.size() <= 2 * tile_rows && width_ == d_;
    if (!in_place) pack(values, d_, values_);
    for (int64_t i = seeing.begin; i < seeing.end; i += tile_rows) {
      const Interval tile{i, std::min(seeing.end, i + tile_rows)};
      const float* weights = scores_ + (i - seeing.begin) * kv_block_tokens;
      if (in_place) {
        add_values(rows, first, tile, position, weights, Right<T>{values.data, values.stride});
      } else {
        add_values(rows, first, tile, position, weights, Right<float>{values_, width_});
      }
    }
  }

  // What all rows of the tile see, then what the later ones see beyond that.
  template <class V>
  void add_values(const GroupRows& rows, int64_t first, Interval tile, int64_t position,
                  const float* weights, Right<V> values) {
    const int64_t common = rows.seen(tile.begin, position);
    const Left p{weights, kv_block_tokens, 1};
    const Packed sum{sum_ + (first + tile.begin) * width_, width_};
    product(p, values, sum, tile.size(), common, width_, true);
    for (int64_t i = 0; i < tile.size(); ++i) {
      const int64_t more = rows.seen(tile.begin + i, position) - common;
      if (more == 0) continue;
      product(p.below(i).after(common), Right<V>{values.data + common * values.row, values.row},
              {sum.data + i * width_, width_}, 1, more, width_, true);
    }
  }

  void drop(const GroupRows& rows, int64_t i, int64_t position, float* scores) {
    const F32 d;
    dropout_mask(op_.dropout.source(), op_.dropout.probability,
                 rows.dropout_key(op_.dropout, op_.heads.first_head, i), position, kv_block_tokens,
                 mask_);
    for (int64_t j = 0; j < kv_block_tokens; j += lane_count()) {
      hn::Store(hn::Mul(hn::Load(d, scores + j), hn::Load(d, mask_ + j)), d, scores + j);
    }
  }

  void write_rows(const GroupRows& rows, int64_t first) {
    for (int64_t i = 0; i < rows.count(); ++i) {
      const int64_t row = rows.tensor_row(i), head = rows.head(i);
      const float* sum = sum_ + (first + i) * width_;
      const auto share = hn::Set(F32(), 1 / weight_[first + i]);
      T* out = op_.out.row<T>(row) + head * d_;
      for_lanes(d_, [&](int64_t j, auto p)
                        HWY_ATTR { store(hn::Mul(load(sum + j, p), share), out + j, p); });
      if (op_.logsumexp.empty()) continue;
      op_.logsumexp.row<float>(row)[head] = most_[first + i] + std::log(weight_[first + i]);
    }
  }

  const Attention& op_;
  std::span<const HeadGroup> groups_;
  const AttentionItem& item_;
  int64_t d_, width_, rows_ = 0;
  float *keys_, *values_, *scores_, *mask_, *zeros_, *sum_, *q_, *most_, *weight_;
};

void attention_item(const Attention& op, std::span<const HeadGroup> groups,
                    const AttentionItem& item) {
  groups = groups.subspan(static_cast<size_t>(item.groups.begin),
                          static_cast<size_t>(item.groups.size()));
  if (op.q.dtype == DType::bf16) {
    ItemKernel<bfloat16>(op, groups, item).run();
  } else {
    ItemKernel<float>(op, groups, item).run();
  }
}

}  // namespace
}  // namespace tandem::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tandem::cpu {

HWY_EXPORT(attention_item);

void run(const Attention& op, int threads) {
  const DType dtype = op.q.dtype;
  TANDEM_CHECK(op.keys.dtype == dtype && op.values.dtype == dtype && op.out.dtype == dtype,
               "attention of {} with keys of {}", dtype_name(dtype), dtype_name(op.keys.dtype));
  const std::vector<HeadGroup> groups = head_groups(op.heads);
  const std::vector<AttentionItem> items = attention_items(op.sequences, groups, threads);
  parallel_items(threads, static_cast<int64_t>(items.size()), [&](int64_t i) {
    HWY_DYNAMIC_DISPATCH(attention_item)(op, groups, items[static_cast<size_t>(i)]);
  });
}

}  // namespace tandem::cpu
#endif  // HWY_ONCE
