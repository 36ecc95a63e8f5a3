// The one way kernels use more than one core.
#pragma once

#include <cstdint>

#include "tandem/base/interval.h"

namespace tandem::cpu {

// Calls body(part) on up to `threads` threads; the parts cover [0, count) without overlap. How the
// range is cut never changes a result: kernels keep the order of sums within an element.
template <class Body>
void parallel_ranges(int threads, int64_t count, const Body& body) {
  const int64_t parts = threads < count ? threads : count;
  if (parts <= 1) {
    if (count > 0) body(Interval{0, count});
    return;
  }
#pragma omp parallel for num_threads(static_cast <int>(parts)) schedule(static, 1)
  for (int64_t i = 0; i < parts; ++i) body(part(count, parts, i));
}

// Calls body(i) for every i in [0, count), handed out one by one: for items of unequal size.
template <class Body>
void parallel_items(int threads, int64_t count, const Body& body) {
  if (threads <= 1 || count <= 1) {
    for (int64_t i = 0; i < count; ++i) body(i);
    return;
  }
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
  for (int64_t i = 0; i < count; ++i) body(i);
}

}  // namespace tandem::cpu
