// Half-open ranges and the one rule by which anything is divided among n parts.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

namespace tandem {

struct Interval {
  int64_t begin = 0;
  int64_t end = 0;

  int64_t size() const { return end - begin; }
  bool empty() const { return end <= begin; }
  bool contains(int64_t i) const { return begin <= i && i < end; }
  bool contains(const Interval& other) const { return begin <= other.begin && other.end <= end; }
  Interval shifted(int64_t by) const { return {begin + by, end + by}; }
  friend bool operator==(const Interval&, const Interval&) = default;
  friend auto operator<=>(const Interval&, const Interval&) = default;
};

// The common part; {begin, begin} with size 0 where there is none.
inline Interval overlap(const Interval& a, const Interval& b) {
  const int64_t begin = std::max(a.begin, b.begin);
  return {begin, std::max(begin, std::min(a.end, b.end))};
}

// Part `index` of `count` nearly equal parts of [0, total): sizes differ by at most one.
inline Interval part(int64_t total, int64_t count, int64_t index) {
  return {total * index / count, total * (index + 1) / count};
}
inline Interval part(const Interval& whole, int64_t count, int64_t index) {
  return part(whole.size(), count, index).shifted(whole.begin);
}

// The elements of `all` that stand in `part`.
template <class T>
std::span<T> part_of(std::span<T> all, const Interval& part) {
  return all.subspan(static_cast<size_t>(part.begin), static_cast<size_t>(part.size()));
}

}  // namespace tandem
