// The gradient of attention in f32, whatever the dtype.
#include <limits>
#include <utility>

#include "tandem/device/cpu/attention_kernels.h"
#include "tandem/device/cpu/random_lanes.h"
#include "tandem/device/cpu/scratch.h"
#include "tandem/device/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tandem/device/cpu/attention_backward_lanes.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "tandem/device/cpu/kv_block-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tandem::cpu::HWY_NAMESPACE {
namespace {

// Scores and gradients of probabilities of one row become what the products below need:
// p = exp(score - logsumexp), dropped; ds = p (dp - delta).
HWY_INLINE void gradient_step(float* p, float* ds, int64_t seen, float logsumexp, float delta,
                              const float* mask) {
  const F32 d;
  const auto shift = hn::Set(d, logsumexp), mean = hn::Set(d, delta);
  for (int64_t j = 0; j < kv_block_tokens; j += lane_count()) {
    auto score = hn::Load(d, p + j);
    if (j + lane_count() > seen) {
      score = keep(score, First{seen > j ? seen - j : 0}, -std::numeric_limits<float>::infinity());
    }
    const auto e = exp_lanes(hn::Sub(score, shift));
    const auto kept = mask ? hn::Load(d, mask + j) : hn::Set(d, 1.0f);
    const auto dp = hn::Mul(kept, hn::Load(d, ds + j));
    hn::Store(hn::Mul(e, kept), d, p + j);
    hn::Store(hn::Mul(e, hn::Sub(dp, mean)), d, ds + j);
  }
}

// Some consecutive queries of a sequence, all heads of one group.
template <class T>
class TileGradient {
 public:
  TileGradient(const AttentionBackward& op, const GroupRows& rows)
      : op_(op),
        rows_(rows),
        d_(op.heads.head_dim),
        value_d_(op.heads.value_dim),
        width_(padded(d_)),
        value_width_(padded(value_d_)) {
    static thread_local Scratch scratch;
    const int64_t count = rows.count(), block = kv_block_tokens;
    float* next =
        scratch.get<float>(count * (2 * width_ + value_width_ + 2 * block + 1) +
                           block * (d_ + value_d_ + width_ + std::max(width_, value_width_) + 1) +
                           std::max(width_, value_width_) + row_padding);
    const auto take = [&](int64_t size) { return std::exchange(next, next + padded(size)); };
    q_ = take(count * width_);
    dout_ = take(count * value_width_);
    dq_ = take(count * width_);
    p_ = take(count * block);
    ds_ = take(count * block);
    delta_ = take(count);
    keys_ = take(block * width_);
    keys_transposed_ = take(block * d_);
    values_transposed_ = take(block * value_d_);
    sum_ = take(block * std::max(width_, value_width_));
    mask_ = take(block);
    zeros_ = take(std::max(width_, value_width_));
  }

  void run() {
    std::fill_n(zeros_, std::max(width_, value_width_), 0.0f);
    std::fill_n(dq_, rows_.count() * width_, 0.0f);
    for (int64_t i = 0; i < rows_.count(); ++i) read_row(i);
    for (int64_t position = 0; position < rows_.key_count(); position += kv_block_tokens) {
      block(position);
    }
    const auto scaled = hn::Set(F32(), op_.heads.scale);
    for (int64_t i = 0; i < rows_.count(); ++i) {
      T* dq = op_.dq.row<T>(rows_.tensor_row(i)) + rows_.head(i) * d_;
      const float* from = dq_ + i * width_;
      for_lanes(d_, [&](int64_t j, auto part)
                        HWY_ATTR { store(hn::Mul(scaled, load(from + j, part)), dq + j, part); });
    }
  }

 private:
  void read_row(int64_t i) {
    const int64_t row = rows_.tensor_row(i), col = rows_.head(i) * value_d_;
    const T* q = op_.q.row<T>(row) + rows_.head(i) * d_;
    const T *out = op_.out.row<T>(row) + col, *dout = op_.dout.row<T>(row) + col;
    const auto scaled = hn::Set(F32(), op_.heads.scale);
    auto delta = hn::Zero(F32());
    std::fill(q_ + i * width_ + d_, q_ + (i + 1) * width_, 0.0f);
    std::fill(dout_ + i * value_width_ + value_d_, dout_ + (i + 1) * value_width_, 0.0f);
    for_lanes(value_d_, [&](int64_t j, auto part) HWY_ATTR {
      const auto upper = load(dout + j, part);
      delta = hn::MulAdd(upper, load(out + j, part), delta);
      store(upper, dout_ + i * value_width_ + j, part);
    });
    for_lanes(d_, [&](int64_t j, auto part) HWY_ATTR {
      store(hn::Mul(scaled, load(q + j, part)), q_ + i * width_ + j, part);
    });
    delta_[i] = sum_lanes(delta);
  }

  void block(int64_t position) {
    const int64_t col = rows_.group->kv_head * d_, value_col = rows_.group->kv_head * value_d_;
    const Interval where = rows_.block(position), seeing = rows_.seeing(position);
    const auto keys = block_rows<T>(op_.keys, where, col);
    const T* zeros = reinterpret_cast<const T*>(zeros_);
    pack(keys, d_, keys_);
    pack_transposed(RowPointers<T>(keys, zeros), d_, keys_transposed_);
    pack_transposed(RowPointers<T>(block_rows<T>(op_.values, where, value_col), zeros), value_d_,
                    values_transposed_);

    const int64_t count = seeing.size(), b = kv_block_tokens;
    const float *q = q_ + seeing.begin * width_, *dout = dout_ + seeing.begin * value_width_;
    product({q, width_, 1}, Right<float>{keys_transposed_, b}, {p_, b}, count, d_, b, false);
    product({dout, value_width_, 1}, Right<float>{values_transposed_, b}, {ds_, b}, count, value_d_,
            b, false);
    for (int64_t i = 0; i < count; ++i) step(seeing.begin + i, position, p_ + i * b, ds_ + i * b);

    product({ds_, b, 1}, Right<float>{keys_, width_}, {dq_ + seeing.begin * width_, width_}, count,
            where.size(), width_, true);
    add_products(p_, {dout, value_width_}, count, op_.dvalues, where, {value_col, value_d_});
    add_products(ds_, {q, width_}, count, op_.dkeys, where, {col, d_});
  }

  void step(int64_t i, int64_t position, float* p, float* ds) {
    const float* mask = nullptr;
    if (op_.dropout.active()) {
      const uint64_t key = rows_.dropout_key(op_.dropout, op_.heads.first_head, i);
      dropout_mask(op_.dropout.source(), op_.dropout.probability, {&key, 1},
                   {position, position + kv_block_tokens}, mask_, kv_block_tokens);
      mask = mask_;
    }
    gradient_step(p, ds, rows_.seen(i, position),
                  op_.logsumexp.row<float>(rows_.tensor_row(i))[rows_.head(i)], delta_[i], mask);
  }

  // The columns of one head in a tensor.
  struct Columns {
    int64_t first, count;
  };
  // Rows `where` of `to` += the sum over rows i of factors[i][row] * rows[i].
  void add_products(const float* factors, Right<float> rows, int64_t count, const Tensor& to,
                    Interval where, Columns columns) {
    product({factors, 1, kv_block_tokens}, rows, {sum_, rows.row}, where.size(), count, rows.row,
            false);
    for (int64_t j = 0; j < where.size(); ++j) {
      float* row = to.row<float>(where.begin + j) + columns.first;
      const float* sum = sum_ + j * rows.row;
      for_lanes(columns.count, [&](int64_t i, auto part) HWY_ATTR {
        store(hn::Add(load(row + i, part), load(sum + i, part)), row + i, part);
      });
    }
  }

  const AttentionBackward& op_;
  const GroupRows& rows_;
  int64_t d_, value_d_, width_, value_width_;  // widths: padded
  float *q_, *dout_, *dq_, *p_, *ds_, *delta_, *keys_, *keys_transposed_, *values_transposed_,
      *sum_, *mask_, *zeros_;
};

void tile_gradient(const AttentionBackward& op, const GroupRows& rows) {
  if (op.q.dtype == DType::bf16) {
    TileGradient<bfloat16>(op, rows).run();
  } else {
    TileGradient<float>(op, rows).run();
  }
}

}  // namespace
}  // namespace tandem::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tandem::cpu {

HWY_EXPORT(tile_gradient);

void attention_backward_lanes(const AttentionBackward& op, const GroupRows& rows) {
  HWY_DYNAMIC_DISPATCH(tile_gradient)(op, rows);
}

}  // namespace tandem::cpu
#endif  // HWY_ONCE
