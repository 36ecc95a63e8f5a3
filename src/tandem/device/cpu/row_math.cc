#include "tandem/device/cpu/row_math.h"

#include <algorithm>
#include <limits>

#include "tandem/device/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tandem/device/cpu/row_math.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "tandem/device/cpu/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tandem::cpu::HWY_NAMESPACE {
namespace {

// body(pointer) with a pointer of the right type.
template <class Body>
HWY_INLINE void typed(Numbers run, const Body& body) {
  if (run.dtype == DType::bf16) {
    body(reinterpret_cast<bfloat16*>(run.data));
  } else {
    body(reinterpret_cast<float*>(run.data));
  }
}

void convert(Numbers from, Numbers to, int64_t n) {
  if (from.dtype == to.dtype) {
    if (n > 0) std::memmove(to.data, from.data, static_cast<size_t>(n * size_of(to.dtype)));
    return;
  }
  typed(from, [&](auto* f) HWY_ATTR {
    typed(to, [&](auto* t) HWY_ATTR {
      for_lanes(n, [&](int64_t i, auto p) HWY_ATTR { store(load(f + i, p), t + i, p); });
    });
  });
}

void scale(float factor, Numbers from, Numbers to, int64_t n) {
  const auto by = hn::Set(F32(), factor);
  typed(from, [&](auto* f) HWY_ATTR {
    typed(to, [&](auto* t) HWY_ATTR {
      for_lanes(n,
                [&](int64_t i, auto p) HWY_ATTR { store(hn::Mul(by, load(f + i, p)), t + i, p); });
    });
  });
}

void multiply(Numbers from, const float* by, Numbers to, int64_t n) {
  typed(from, [&](auto* f) HWY_ATTR {
    typed(to, [&](auto* t) HWY_ATTR {
      for_lanes(n, [&](int64_t i, auto p)
                       HWY_ATTR { store(hn::Mul(load(f + i, p), load(by + i, p)), t + i, p); });
    });
  });
}

void add(Numbers from, float* to, int64_t n) {
  typed(from, [&](auto* f) HWY_ATTR {
    for_lanes(n, [&](int64_t i, auto p)
                     HWY_ATTR { store(hn::Add(load(to + i, p), load(f + i, p)), to + i, p); });
  });
}

void add_scaled(float factor, Numbers from, float* to, int64_t n) {
  const auto by = hn::Set(F32(), factor);
  typed(from, [&](auto* f) HWY_ATTR {
    for_lanes(n, [&](int64_t i, auto p) HWY_ATTR {
      store(hn::MulAdd(by, load(f + i, p), load(to + i, p)), to + i, p);
    });
  });
}

void add_product(Numbers from, const float* by, float* to, int64_t n) {
  typed(from, [&](auto* f) HWY_ATTR {
    for_lanes(n, [&](int64_t i, auto p) HWY_ATTR {
      store(hn::MulAdd(load(f + i, p), load(by + i, p), load(to + i, p)), to + i, p);
    });
  });
}

void shifted_exp(float factor, Numbers from, float shift, Numbers to, int64_t n) {
  const auto by = hn::Set(F32(), factor), minus = hn::Set(F32(), shift);
  typed(from, [&](auto* f) HWY_ATTR {
    typed(to, [&](auto* t) HWY_ATTR {
      for_lanes(n, [&](int64_t i, auto p) HWY_ATTR {
        store(hn::Mul(by, exp_lanes(hn::Sub(load(f + i, p), minus))), t + i, p);
      });
    });
  });
}

float dot(Numbers a, const float* b, int64_t n) {
  auto sum = hn::Zero(F32());
  typed(a, [&](auto* f) HWY_ATTR {
    for_lanes(n, [&](int64_t i, auto p)
                     HWY_ATTR { sum = hn::MulAdd(load(f + i, p), load(b + i, p), sum); });
  });
  return sum_lanes(sum);
}

float largest(Numbers a, int64_t n) {
  constexpr float least = -std::numeric_limits<float>::infinity();
  auto most = hn::Set(F32(), least);
  typed(a, [&](auto* f) HWY_ATTR {
    for_lanes(n, [&](int64_t i, auto p) HWY_ATTR {
      const auto v = keep(load(f + i, p), p, least);
      most = hn::IfThenElse(hn::Gt(v, most), v, most);
    });
  });
  return max_lanes(most);
}

float sum_of_exp(Numbers a, float shift, int64_t n) {
  constexpr int64_t piece = 4096;  // long sums lose little when they are made of short ones
  const auto minus = hn::Set(F32(), shift);
  float total = 0;
  typed(a, [&](auto* f) HWY_ATTR {
    for (int64_t begin = 0; begin < n; begin += piece) {
      auto sum = hn::Zero(F32());
      for_lanes(std::min(piece, n - begin), [&](int64_t i, auto p) HWY_ATTR {
        const auto e = exp_lanes(hn::Sub(load(f + begin + i, p), minus));
        sum = hn::Add(sum, keep(e, p, 0));
      });
      total += sum_lanes(sum);
    }
  });
  return total;
}

double squared_sum(const float* a, int64_t n) {
  const hn::ScalableTag<double> d;
  const hn::Rebind<float, hn::ScalableTag<double>> half;
  const int64_t step = static_cast<int64_t>(hn::Lanes(d));
  auto first = hn::Zero(d), second = hn::Zero(d);
  int64_t i = 0;
  for (; i + 2 * step <= n; i += 2 * step) {
    const auto x = hn::PromoteTo(d, hn::LoadU(half, a + i));
    const auto y = hn::PromoteTo(d, hn::LoadU(half, a + i + step));
    first = hn::MulAdd(x, x, first);
    second = hn::MulAdd(y, y, second);
  }
  double sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(first, second)));
  for (; i < n; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(a[i]);
  return sum;
}

}  // namespace
}  // namespace tandem::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tandem::cpu {

HWY_EXPORT(convert);
HWY_EXPORT(scale);
HWY_EXPORT(multiply);
HWY_EXPORT(add);
HWY_EXPORT(add_scaled);
HWY_EXPORT(add_product);
HWY_EXPORT(shifted_exp);
HWY_EXPORT(dot);
HWY_EXPORT(largest);
HWY_EXPORT(sum_of_exp);
HWY_EXPORT(squared_sum);

void convert(Numbers from, Numbers to, int64_t n) { HWY_DYNAMIC_DISPATCH(convert)(from, to, n); }
void scale(float factor, Numbers from, Numbers to, int64_t n) {
  HWY_DYNAMIC_DISPATCH(scale)(factor, from, to, n);
}
void multiply(Numbers from, const float* by, Numbers to, int64_t n) {
  HWY_DYNAMIC_DISPATCH(multiply)(from, by, to, n);
}
void add(Numbers from, float* to, int64_t n) { HWY_DYNAMIC_DISPATCH(add)(from, to, n); }
void add_scaled(float factor, Numbers from, float* to, int64_t n) {
  HWY_DYNAMIC_DISPATCH(add_scaled)(factor, from, to, n);
}
void add_product(Numbers from, const float* by, float* to, int64_t n) {
  HWY_DYNAMIC_DISPATCH(add_product)(from, by, to, n);
}
void shifted_exp(float factor, Numbers from, float shift, Numbers to, int64_t n) {
  HWY_DYNAMIC_DISPATCH(shifted_exp)(factor, from, shift, to, n);
}
float dot(Numbers a, const float* b, int64_t n) { return HWY_DYNAMIC_DISPATCH(dot)(a, b, n); }
float largest(Numbers a, int64_t n) { return HWY_DYNAMIC_DISPATCH(largest)(a, n); }
float sum_of_exp(Numbers a, float shift, int64_t n) {
  return HWY_DYNAMIC_DISPATCH(sum_of_exp)(a, shift, n);
}
double squared_sum(const float* a, int64_t n) { return HWY_DYNAMIC_DISPATCH(squared_sum)(a, n); }

}  // namespace tandem::cpu
#endif  // HWY_ONCE
