// Gradients as few bytes, and back. A block of them fits the first-level cache.
#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>

#include "tandem/device/cpu/kernels.h"
#include "tandem/device/cpu/parallel.h"
#include "tandem/device/cpu/row_math.h"
#include "tandem/device/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tandem/device/cpu/gradient_coding.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "tandem/device/cpu/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tandem::cpu::HWY_NAMESPACE {
namespace {

using I32 = hn::Repartition<int32_t, F32>;
constexpr int64_t bitmap_words = coding_block / 32;

// Some numbers in order; those behind the last are zero.
struct Numbers {
  HWY_ALIGN float values[coding_block];
  int64_t size = 0;
};

// Of floats without their signs, as integers: their order is the same, and NaN comes last.
HWY_INLINE auto magnitude(const float* at) {
  return hn::And(hn::BitCast(I32(), hn::Load(F32(), at)), hn::Set(I32(), 0x7fffffff));
}

// How many of the block are at least `least`, which is above zero.
int64_t count_from(const Numbers& x, int32_t least) {
  const auto limit = hn::Set(I32(), least - 1);
  auto count = hn::Zero(I32());
  for (int64_t i = 0; i < x.size; i += lane_count())
    count = hn::Sub(count, hn::VecFromMask(I32(), hn::Gt(magnitude(x.values + i), limit)));
  return hn::GetLane(hn::SumOfLanes(I32(), count));
}

// In numbers that are about normal a tenth is larger than twice the mean, more or less.
int64_t likely_threshold(const Numbers& x) {
  const F32 d;
  auto sum = hn::Zero(d);
  for (int64_t i = 0; i < x.size; i += lane_count())
    sum = hn::Add(sum, hn::Abs(hn::Load(d, x.values + i)));
  const float mean = hn::GetLane(hn::SumOfLanes(d, sum)) / static_cast<float>(x.size);
  return std::bit_cast<int32_t>(2 * mean) & 0x7fffffff;
}

// A magnitude that `wanted` numbers have at least, or more where some are equal. Looked for around
// the likely one in growing steps; then where it would be if numbers lay evenly between the closest
// two that are known, every third time halfway, since they may not.
int32_t threshold(const Numbers& x, int64_t wanted) {
  struct Known {
    int64_t magnitude, count;
  };
  constexpr int64_t end = int64_t{1} << 31;
  Known enough{0, x.size}, too_few{end, 0};
  int64_t guess = likely_threshold(x), step = 1 << 20;
  for (int64_t tries = 1; too_few.magnitude - enough.magnitude > 1; ++tries) {
    const bool narrowed = enough.magnitude > 0 && too_few.magnitude < end;
    const int64_t lowest = enough.magnitude + 1, highest = too_few.magnitude - 1;
    if (narrowed && tries % 3 != 0)
      guess = enough.magnitude + (too_few.magnitude - enough.magnitude) * (enough.count - wanted) /
                                     (enough.count - too_few.count);
    else if (narrowed || guess < lowest || guess > highest)
      guess = std::midpoint(lowest, highest);
    guess = std::clamp(guess, lowest, highest);
    const int64_t count = count_from(x, static_cast<int32_t>(guess));
    if (count == wanted) return static_cast<int32_t>(guess);
    (count > wanted ? enough : too_few) = {guess, count};
    guess = count > wanted ? guess + step : guess - step;
    step *= 2;
  }
  return static_cast<int32_t>(enough.magnitude);
}

// A bit for each number above `limit`.
void mark_above(const Numbers& x, int32_t limit, uint32_t* bitmap) {
  std::fill_n(bitmap, bitmap_words, 0u);
  auto* bytes = reinterpret_cast<uint8_t*>(bitmap);
  for (int64_t i = 0; i < x.size; i += lane_count()) {
    uint8_t bits[8] = {};
    hn::StoreMaskBits(I32(), hn::Gt(magnitude(x.values + i), hn::Set(I32(), limit)), bits);
    for (int64_t b = 0; b * 8 < lane_count(); ++b)
      bytes[i / 8 + b] |= static_cast<uint8_t>(bits[b] << i % 8);
  }
  if (x.size % 32 != 0) bitmap[x.size / 32] &= (1u << x.size % 32) - 1;
}

// Exactly `wanted` bits: of equal numbers at the border the first.
void mark_top(const Numbers& x, int64_t wanted, uint32_t* bitmap) {
  const int32_t least = threshold(x, wanted);
  mark_above(x, least - 1, bitmap);
  int64_t over = -wanted;
  for (int64_t w = 0; w < bitmap_words; ++w) over += std::popcount(bitmap[w]);
  for (int64_t i = x.size - 1; over > 0 && i >= 0; --i) {
    const uint32_t bit = 1u << i % 32;
    const int32_t bits = std::bit_cast<int32_t>(x.values[i]) & 0x7fffffff;
    if (!(bitmap[i / 32] & bit) || bits != least) continue;
    bitmap[i / 32] &= ~bit;
    --over;
  }
}

// Moves the marked numbers out of the block, in order; zeros stay in their places.
void take_marked(Numbers& x, const uint32_t* bitmap, float* to) {
  const F32 d;
  for (int64_t i = 0; i < x.size; i += lane_count()) {
    const uint64_t bits = bitmap[i / 32] >> i % 32 & ((uint64_t{1} << lane_count()) - 1);
    uint8_t bytes[8];
    std::memcpy(bytes, &bits, sizeof(bytes));
    const auto marked = hn::LoadMaskBits(d, bytes);
    const auto numbers = hn::Load(d, x.values + i);
    hn::StoreU(hn::Compress(numbers, marked), d, to);
    hn::Store(hn::IfThenZeroElse(marked, numbers), d, x.values + i);
    to += std::popcount(bits);
  }
}

// body(index in the block, index among those marked)
template <class Body>
HWY_INLINE void for_marked(const uint32_t* bitmap, int64_t words, const Body& body) {
  int64_t n = 0;
  for (int64_t w = 0; w < words; ++w)
    for (uint32_t bits = bitmap[w]; bits != 0; bits &= bits - 1)
      body(w * 32 + std::countr_zero(bits), n++);
}

float largest(const Numbers& x) {
  auto most = hn::Zero(I32());
  for (int64_t i = 0; i < x.size; i += lane_count()) most = hn::Max(most, magnitude(x.values + i));
  return std::bit_cast<float>(hn::GetLane(hn::MaxOfLanes(I32(), most)));
}

// To multiples of the scale, and what they leave.
void quantise(Numbers& x, float scale, int8_t* to) {
  const F32 d;
  const hn::Rebind<int8_t, I32> narrow;
  const auto inverse = hn::Set(d, scale > 0 ? 1 / scale : 0), factor = hn::Set(d, scale);
  HWY_ALIGN int8_t rounded[coding_block];
  for (int64_t i = 0; i < x.size; i += lane_count()) {
    const auto v = hn::Load(d, x.values + i);
    const auto q = hn::NearestInt(hn::Mul(v, inverse));
    hn::StoreU(hn::DemoteTo(narrow, q), narrow, rounded + i);
    hn::Store(hn::NegMulAdd(hn::ConvertTo(d, q), factor, v), d, x.values + i);
  }
  std::memcpy(to, rounded, static_cast<size_t>(x.size));
}

// Writes the numbers and leaves in their place what is unsaid.
void write_numbers(Numbers& x, GradientCoding coding, uint32_t* to) {
  if (!has_scale(coding)) {
    std::memcpy(to, x.values, static_cast<size_t>(x.size) * sizeof(float));
    std::fill_n(x.values, x.size, 0.0f);
    return;
  }
  // 1 / scale stays finite.
  const float most = largest(x), scale = most < 1e-35f ? 0 : most / 127;
  *to = std::bit_cast<uint32_t>(scale);
  to[coded_words(GradientCoding::int8, x.size) - 1] = 0;
  quantise(x, scale, reinterpret_cast<int8_t*>(to + 1));
}

// `x` becomes what is unsaid.
void encode_block(Numbers& x, GradientCoding coding, uint32_t* to) {
  if (!keeps_top(coding)) return write_numbers(x, coding, to);
  uint32_t bitmap[bitmap_words];
  Numbers top;
  top.size = coded_numbers(coding, x.size);
  mark_top(x, top.size, bitmap);
  const int64_t words = (x.size + 31) / 32;
  std::copy_n(bitmap, words, to);
  take_marked(x, bitmap, top.values);
  std::fill(top.values + top.size, top.values + (top.size + 63) / 64 * 64, 0.0f);
  write_numbers(top, coding, to + words);
  if (!has_scale(coding)) return;
  for_marked(bitmap, words, [&](int64_t i, int64_t n) { x.values[i] = top.values[n]; });
}

// body(first column, size, first word of the row)
template <class Body>
HWY_INLINE void for_blocks(int64_t cols, GradientCoding coding, const Body& body) {
  int64_t word = 0;
  for (int64_t first = 0; first < cols; first += coding_block) {
    const int64_t size = std::min(coding_block, cols - first);
    body(first, size, word);
    word += coded_words(coding, size);
  }
}

void encode_rows(const EncodeGradient& op, const Interval& rows) {
  Numbers x;
  for (int64_t row = rows.begin; row < rows.end; ++row)
    for_blocks(op.gradient.cols, op.coding, [&](int64_t first, int64_t size, int64_t word) {
      const float* gradient = op.gradient.row<float>(row) + first;
      float* residual = op.residual.row<float>(row) + first;
      x.size = size;
      std::fill(x.values + size, x.values + (size + 63) / 64 * 64, 0.0f);
      for_lanes(size, [&](int64_t i, auto p) HWY_ATTR {
        store(hn::Add(load(gradient + i, p), load(residual + i, p)), x.values + i, p);
      });
      encode_block(x, op.coding, op.out.row<uint32_t>(row) + word);
      std::memcpy(residual, x.values, static_cast<size_t>(size) * sizeof(float));
    });
}

void decode_block(const uint32_t* from, GradientCoding coding, int64_t size, float* to) {
  const int64_t numbers = coded_numbers(coding, size);
  const uint32_t* bitmap = from;
  if (keeps_top(coding)) from += (size + 31) / 32;
  float values[coding_block];
  if (has_scale(coding)) {
    const float scale = std::bit_cast<float>(*from);
    const auto* q = reinterpret_cast<const int8_t*>(from + 1);
    for (int64_t i = 0; i < numbers; ++i) values[i] = scale * static_cast<float>(q[i]);
  } else {
    std::memcpy(values, from, static_cast<size_t>(numbers) * sizeof(float));
  }
  if (!keeps_top(coding)) {
    std::copy_n(values, size, to);
    return;
  }
  std::fill_n(to, size, 0.0f);
  for_marked(bitmap, (size + 31) / 32, [&](int64_t i, int64_t n) { to[i] = values[n]; });
}

void decode_rows(const DecodeGradient& op, const Interval& rows) {
  for (int64_t row = rows.begin; row < rows.end; ++row)
    for_blocks(op.out.cols, op.coding, [&](int64_t first, int64_t size, int64_t word) {
      decode_block(op.in.row<uint32_t>(row) + word, op.coding, size,
                   op.out.row<float>(row) + first);
    });
}

}  // namespace
}  // namespace tandem::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tandem::cpu {

HWY_EXPORT(encode_rows);
HWY_EXPORT(decode_rows);

void run(const EncodeGradient& op, int threads) {
  TANDEM_CHECK(op.out.cols == coded_row_words(op.coding, op.gradient.cols),
               "{} words for {} numbers of a gradient", op.out.cols, op.gradient.cols);
  parallel_ranges(useful_threads(threads, op.gradient.elements()), op.gradient.rows,
                  [&](const Interval& rows) {
                    HWY_DYNAMIC_DISPATCH(encode_rows)
                    (op, rows);
                  });
}

void run(const DecodeGradient& op, int threads) {
  TANDEM_CHECK(op.in.cols == coded_row_words(op.coding, op.out.cols),
               "{} words for {} numbers of a gradient", op.in.cols, op.out.cols);
  parallel_ranges(useful_threads(threads, op.out.elements()), op.out.rows,
                  [&](const Interval& rows) {
                    HWY_DYNAMIC_DISPATCH(decode_rows)
                    (op, rows);
                  });
}

}  // namespace tandem::cpu
#endif  // HWY_ONCE
