#include "tandem/device/cpu/targets.h"
// The set of processors comes before anything of Highway.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tandem/device/cpu/activation.cc"
#include <hwy/foreach_target.h>
// The lines above compile this file once for each kind of processor.
#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include <algorithm>
#include <array>

#include "tandem/device/cpu/activation.h"

HWY_BEFORE_NAMESPACE();
namespace tandem::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

template <class... Lower>
HWY_INLINE V polynomial(V x, float highest, Lower... lower) {
  const D d;
  V sum = hn::Set(d, highest);
  ((sum = hn::MulAdd(sum, x, hn::Set(d, lower))), ...);
  return sum;
}

// A value and its derivative.
struct Curve {
  V value, slope;
};

HWY_INLINE V sigmoid(V x) {
  const D d;
  const V one = hn::Set(d, 1.0f);
  const V e = hn::Exp(d, hn::Neg(hn::Abs(x)));  // never overflows
  return hn::Div(hn::IfThenElse(hn::Lt(x, hn::Zero(d)), e, one), hn::Add(one, e));
}

HWY_INLINE V tanh(V x) {
  const D d;
  const V one = hn::Set(d, 1.0f);
  const V e = hn::Exp(d, hn::Mul(hn::Set(d, -2.0f), hn::Abs(x)));
  return hn::CopySign(hn::Div(hn::Sub(one, e), hn::Add(one, e)), x);
}

// Rational approximation of W. J. Cody's form with coefficients fitted for f32 (error below 3e-7).
HWY_INLINE V erf(V x) {
  const D d;
  const V bounded = hn::Max(hn::Min(x, hn::Set(d, 4.0f)), hn::Set(d, -4.0f));
  const V x2 = hn::Mul(bounded, bounded);
  const V above = polynomial(x2, -2.72614225801306e-10f, 2.77068142495902e-08f,
                             -2.10102402082508e-06f, -5.69250639462346e-05f, -7.34990630326855e-04f,
                             -2.95459980854025e-03f, -1.60960333262415e-02f);
  const V below =
      polynomial(x2, -1.45660718464996e-05f, -2.13374055278905e-04f, -1.68282697438203e-03f,
                 -7.37332916720468e-03f, -1.42647390514189e-02f);
  return hn::Div(hn::Mul(bounded, above), below);
}

HWY_INLINE Curve silu(V x) {
  const V s = sigmoid(x);
  const V value = hn::Mul(x, s);
  // s (1 + x (1 - s))
  return {value, hn::NegMulAdd(s, value, hn::Add(s, value))};
}

HWY_INLINE Curve gelu(V x) {
  const D d;
  const V half = hn::Set(d, 0.5f);
  const V phi = hn::MulAdd(half, erf(hn::Mul(x, hn::Set(d, 0.70710678f))), half);
  const V density =
      hn::Mul(hn::Set(d, 0.39894228f), hn::Exp(d, hn::Mul(hn::Neg(half), hn::Mul(x, x))));
  return {hn::Mul(x, phi), hn::MulAdd(x, density, phi)};
}

HWY_INLINE Curve gelu_tanh(V x) {
  const D d;
  const V half = hn::Set(d, 0.5f), one = hn::Set(d, 1.0f);
  const V scale = hn::Set(d, 0.79788456f), cubic = hn::Set(d, 0.044715f);
  const V x2 = hn::Mul(x, x);
  const V t = tanh(hn::Mul(hn::Mul(scale, x), hn::MulAdd(cubic, x2, one)));
  const V phi = hn::MulAdd(half, t, half);
  const V inner = hn::Mul(scale, hn::MulAdd(hn::Mul(cubic, hn::Set(d, 3.0f)), x2, one));
  const V bend = hn::Mul(half, hn::NegMulAdd(t, t, one));
  return {hn::Mul(x, phi), hn::MulAdd(hn::Mul(x, bend), inner, phi)};
}

template <Activation activation>
HWY_INLINE Curve curve(V x) {
  if constexpr (activation == Activation::silu) return silu(x);
  if constexpr (activation == Activation::gelu) return gelu(x);
  return gelu_tanh(x);
}

// A run of at most one vector, filled up with zeros, so that the last elements of an array are
// computed as all others are.
HWY_INLINE V load_some(const float* from, size_t count) {
  const D d;
  if (count == hn::Lanes(d)) return hn::LoadU(d, from);
  HWY_ALIGN float whole[HWY_MAX_BYTES / sizeof(float)] = {};
  std::copy_n(from, count, whole);
  return hn::Load(d, whole);
}
HWY_INLINE void store_some(V x, float* to, size_t count) {
  const D d;
  if (count == hn::Lanes(d)) return hn::StoreU(x, d, to);
  HWY_ALIGN float whole[HWY_MAX_BYTES / sizeof(float)];
  hn::Store(x, d, whole);
  std::copy_n(whole, count, to);
}

template <class Body>
HWY_INLINE void for_vectors(int64_t count, const Body& body) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(D()));
  for (int64_t i = 0; i < count; i += lanes)
    body(i, static_cast<size_t>(std::min(lanes, count - i)));
}

template <Activation activation>
void forward(const Hidden& in, float* h) {
  for (int64_t row = 0; row < in.rows; ++row)
    for_vectors(in.count, [&](int64_t column, size_t n) {
      const int64_t i = row * in.row_step + column;
      const V up = load_some(in.up + i, n);
      V value = in.gate ? hn::Mul(curve<activation>(load_some(in.gate + i, n)).value, up)
                        : curve<activation>(up).value;
      if (in.scale) value = hn::Mul(value, load_some(in.scale + i, n));
      store_some(value, h + i, n);
    });
}

template <Activation activation>
void backward(const Hidden& in, const float* dh, float* h, float* dgate, float* dup) {
  for_vectors(in.count, [&](int64_t i, size_t n) {
    const V scale = in.scale ? load_some(in.scale + i, n) : hn::Set(D(), 1.0f);
    const V up = load_some(in.up + i, n);
    const V gradient = hn::Mul(load_some(dh + i, n), scale);
    const Curve act = curve<activation>(in.gate ? load_some(in.gate + i, n) : up);
    if (in.gate) {
      store_some(hn::Mul(hn::Mul(act.value, up), scale), h + i, n);
      store_some(hn::Mul(hn::Mul(gradient, up), act.slope), dgate + i, n);
      store_some(hn::Mul(gradient, act.value), dup + i, n);
    } else {
      store_some(hn::Mul(act.value, scale), h + i, n);
      store_some(hn::Mul(gradient, act.slope), dup + i, n);
    }
  });
}

void hidden(const Hidden& in, float* h) {
  switch (in.activation) {
    case Activation::silu:
      return forward<Activation::silu>(in, h);
    case Activation::gelu:
      return forward<Activation::gelu>(in, h);
    case Activation::gelu_tanh:
      return forward<Activation::gelu_tanh>(in, h);
  }
}

void hidden_backward(const Hidden& in, const float* dh, float* h, float* dgate, float* dup) {
  switch (in.activation) {
    case Activation::silu:
      return backward<Activation::silu>(in, dh, h, dgate, dup);
    case Activation::gelu:
      return backward<Activation::gelu>(in, dh, h, dgate, dup);
    case Activation::gelu_tanh:
      return backward<Activation::gelu_tanh>(in, dh, h, dgate, dup);
  }
}

}  // namespace tandem::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tandem::cpu {

HWY_EXPORT(hidden);
HWY_EXPORT(hidden_backward);

void hidden(const Hidden& in, float* h) { HWY_DYNAMIC_DISPATCH(hidden)(in, h); }

void hidden_backward(const Hidden& in, const float* dh, float* h, float* dgate, float* dup) {
  HWY_DYNAMIC_DISPATCH(hidden_backward)(in, dh, h, dgate, dup);
}

}  // namespace tandem::cpu
#endif
