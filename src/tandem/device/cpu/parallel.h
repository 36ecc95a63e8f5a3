// The one way kernels use more than one core.
#pragma once

#include <cstdint>

#include "tandem/base/interval.h"

namespace tandem::cpu {

// Runs body(context, i) for i in [0, count), on this thread and up to threads - 1 others that
// belong to it. Pieces are claimed one by one, so that a thread which the system lets wait holds up
// nothing but the piece it has begun. Returns when all are done. body must not throw, nor call this
// again.
void run_pieces(int threads, int64_t count, void (*body)(const void* context, int64_t i),
                const void* context);

// Calls body(i) for every i in [0, count), handed out one by one: for items of unequal size.
template <class Body>
void parallel_items(int threads, int64_t count, const Body& body) {
  if (threads <= 1 || count <= 1) {
    for (int64_t i = 0; i < count; ++i) body(i);
    return;
  }
  run_pieces(
      threads, count,
      [](const void* context, int64_t i) { (*static_cast<const Body*>(context))(i); }, &body);
}

// Calls body(part) on up to `threads` threads; the parts cover [0, count) without overlap. How the
// range is cut never changes a result: kernels keep the order of sums within an element.
template <class Body>
void parallel_ranges(int threads, int64_t count, const Body& body) {
  const int64_t parts = threads < count ? threads : count;
  if (parts <= 1) {
    if (count > 0) body(Interval{0, count});
    return;
  }
  parallel_items(threads, parts, [&](int64_t i) { body(part(count, parts, i)); });
}

}  // namespace tandem::cpu
