// A step on AVX-512 bf16 dot products: products in the kernel all matrices share, weights between.
#include "tandem/device/cpu/attention_step.h"
#include "tandem/device/cpu/avx512_lanes.h"

namespace tandem::cpu {
namespace {

// Makes weights of some lanes, of pairs of positions.
class Weights {
 public:
  TANDEM_AVX512_INLINE Weights(const SoftmaxStep& step, int64_t lane)
      : step_(step), lane_(lane), most_(_mm512_load_ps(step.sums.most + lane)) {}

  TANDEM_AVX512_INLINE void make() const {
    const Pair total = sum_from<0, 2>();
    float* sum = step_.sums.weight + lane_;
    _mm512_store_ps(sum, _mm512_add_ps(_mm512_load_ps(sum), _mm512_add_ps(total.even, total.odd)));
  }

 private:
  struct Pair {
    __m512 even, odd;
    TANDEM_AVX512_INLINE Pair operator+(const Pair& other) const {
      return {_mm512_add_ps(even, other.even), _mm512_add_ps(odd, other.odd)};
    }
    TANDEM_AVX512_INLINE Pair operator*(const Pair& other) const {
      return {_mm512_mul_ps(even, other.even), _mm512_mul_ps(odd, other.odd)};
    }
  };

  TANDEM_AVX512_INLINE Pair load(const BlockScores& lines, int64_t position) const {
    return {_mm512_load_ps(lines[position] + lane_), _mm512_load_ps(lines[position + 1] + lane_)};
  }
  TANDEM_AVX512_INLINE __m512 power(__m512 score) const {
    return exp2_lanes(_mm512_fmsub_ps(score, _mm512_set1_ps(step_.scale), most_));
  }
  TANDEM_AVX512_INLINE Pair pair(int64_t position) const {
    const Pair scores = load(*step_.scores, position);
    const Pair weights{power(scores.even), power(scores.odd)};
    const Pair kept = step_.mask ? weights * load(*step_.mask, position) : weights;
    _mm512_store_si512(step_.strip + position / 2 * strip_dword_bytes + lane_ * 4,
                       bf16_pairs(kept.even, kept.odd));
    return weights;
  }
  // Weights are added up as the lanes of a vector of 16 positions are (attention_few.cc): four
  // vectors lane by lane, then lanes 8 apart, 4 apart, 2 apart.
  template <int64_t first, int64_t apart>
  TANDEM_AVX512_INLINE Pair sum_from() const {
    if constexpr (apart == 16)
      return (pair(first) + pair(first + 16)) + (pair(first + 32) + pair(first + 48));
    else
      return sum_from<first, 2 * apart>() + sum_from<first + apart, 2 * apart>();
  }

  const SoftmaxStep& step_;
  const int64_t lane_;
  const __m512 most_;
};

TANDEM_AVX512_BF16 void weigh(const SoftmaxStep& step) {
  for (int64_t lane = 0; lane < step.columns; lane += 16) Weights(step, lane).make();
}

// Memory that is brought near beside products, the same with each line of depth.
struct Bringing {
  LinesAhead* ahead = nullptr;
  int64_t lines_each = 0;
  Meanwhile meanwhile() {
    if (lines_each == 0) return {};
    return {[](void* self) {
              const auto& b = *static_cast<Bringing*>(self);
              b.ahead->bring(b.lines_each);
            },
            this};
  }
};

Bringing bringing(const AttentionStep& step) {
  const auto panels = [](int64_t count) { return (count + block_rows - 1) / block_rows; };
  int64_t calls = 0;
  if (const BlockPanels* keys = step.scores.keys) calls += panels(keys->count) * keys->lines;
  if (const TurnedPanels* v = step.values.features) calls += panels(v->count) * v->lines;
  return {step.ahead, calls > 0 ? (step.lines_ahead + calls - 1) / calls : 0};
}

int rows_of(int64_t count) { return count > 16 ? 32 : 16; }

}  // namespace

void run_avx512(const AttentionStep& step) {
  Bringing near = bringing(step);
  if (const auto& s = step.scores; s.keys)
    for (int64_t first = 0; first < s.keys->count; first += block_rows)
      avx512_bf16_block({.a = s.keys->half[first / block_rows],
                         .rows = rows_of(s.keys->count - first),
                         .b = s.queries,
                         .lines = s.keys->lines,
                         .c = (*s.to)[first],
                         .meanwhile = near.meanwhile()});
  if (step.weights.scores) weigh(step.weights);
  if (const auto& v = step.values; v.features)
    for (int64_t first = 0; first < v.features->count; first += block_rows)
      avx512_bf16_block({.a = packed_panel(v.features->at(first / block_rows)),
                         .rows = rows_of(v.features->count - first),
                         .b = v.weights,
                         .lines = v.features->lines,
                         .c = v.sums[first],
                         .accumulate = v.begun,
                         .meanwhile = near.meanwhile()});
}

}  // namespace tandem::cpu
