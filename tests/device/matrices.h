// Matrices for tests of kernels: they end where readable memory ends, so that a kernel that reads
// behind the last row of a weight (the end of a mapped file) stops the test.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "tandem/device/cpu/bf16.h"
#include "tandem/device/cpu/gemm.h"
#include "tandem/device/tensor.h"

namespace tandem::testing {

class GuardedStorage final : public Storage {
 public:
  // `bytes` bytes right before a page that cannot be read.
  static GuardedStorage* make(size_t bytes) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t whole = (bytes + page - 1) / page * page;
    auto* base = static_cast<std::byte*>(
        mmap(nullptr, whole + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(base + whole, page, PROT_NONE);
    return new GuardedStorage(base, whole + page, base + whole - bytes);
  }
  ~GuardedStorage() override { munmap(base_, length_); }

 private:
  GuardedStorage(std::byte* base, size_t length, std::byte* data)
      : Storage(data), base_(base), length_(length) {}
  void last_release() override { delete this; }
  std::byte* base_;
  size_t length_;
};

// Rows lie `padding` elements apart from each other; what is between them is NaN.
inline Tensor make_matrix(int64_t rows, int64_t cols, DType dtype, int64_t padding = 0) {
  Tensor t{.dtype = dtype, .rows = rows, .cols = cols, .stride = cols + padding};
  const int64_t elements = rows == 0 ? 0 : (rows - 1) * t.stride + cols;
  const auto bytes = static_cast<size_t>(elements * size_of(dtype));
  auto* storage = GuardedStorage::make(std::max<size_t>(bytes, 1));
  t.storage = StorageRef(storage);
  t.data = storage->bytes();
  std::memset(t.data, 0xFF, bytes);
  return t;
}

inline float element(const Tensor& t, int64_t i, int64_t j) {
  return t.dtype == DType::bf16 ? cpu::to_float(t.row<bfloat16>(i)[j]) : t.row<float>(i)[j];
}
inline double at(const Tensor& t, int64_t i, int64_t j) { return element(t, i, j); }
inline void set_element(const Tensor& t, int64_t i, int64_t j, float value) {
  if (t.dtype == DType::bf16)
    t.row<bfloat16>(i)[j] = cpu::to_bf16(value);
  else
    t.row<float>(i)[j] = value;
}

using Random = std::mt19937_64;

inline int64_t draw(Random& random, int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(random);
}

inline Tensor random_matrix(Random& random, int64_t rows, int64_t cols, DType dtype,
                            int64_t padding = 0, float scale = 1) {
  const Tensor t = make_matrix(rows, cols, dtype, padding);
  std::normal_distribution<float> normal;
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < cols; ++j) set_element(t, i, j, scale * normal(random));
  return t;
}

inline Tensor zero_matrix(int64_t rows, int64_t cols, DType dtype) {
  const Tensor t = make_matrix(rows, cols, dtype);
  std::memset(t.data, 0, static_cast<size_t>(t.bytes()));
  return t;
}

inline Tensor copy_of(const Tensor& t) {
  const Tensor copy = make_matrix(t.rows, t.cols, t.dtype, t.stride - t.cols);
  for (int64_t i = 0; i < t.rows; ++i)
    std::memcpy(copy.row_bytes(i), t.row_bytes(i), static_cast<size_t>(t.cols * size_of(t.dtype)));
  return copy;
}

// Numbers in double precision, by which kernels are judged.
struct Reference {
  int64_t rows = 0, cols = 0;
  std::vector<double> value, magnitude;  // magnitude: sum of absolute addends, scales the tolerance

  Reference(int64_t rows_, int64_t cols_)
      : rows(rows_), cols(cols_), value(static_cast<size_t>(rows_ * cols_)), magnitude(value) {}
  explicit Reference(const Tensor& t) : Reference(t.rows, t.cols) {
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < cols; ++j) add(i, j, element(t, i, j));
  }
  size_t at(int64_t i, int64_t j) const { return static_cast<size_t>(i * cols + j); }
  double operator()(int64_t i, int64_t j) const { return value[at(i, j)]; }
  void add(int64_t i, int64_t j, double addend) {
    value[at(i, j)] += addend;
    magnitude[at(i, j)] += std::abs(addend);
  }
};

// `precision`: relative error allowed of the inputs of the last sums (0: exact).
inline void expect_near(const Tensor& t, const Reference& expected, double precision = 0) {
  const double rounding = t.dtype == DType::bf16 ? 1.0 / 256 : 0;
  for (int64_t i = 0; i < t.rows; ++i)
    for (int64_t j = 0; j < t.cols; ++j) {
      const double want = expected(i, j), got = element(t, i, j);
      const double bound = rounding * std::abs(want) +
                           (4e-6 + precision) * expected.magnitude[expected.at(i, j)] + 1e-6;
      ASSERT_LE(std::abs(want - got), bound)
          << "at " << i << ", " << j << ": " << got << " instead of " << want;
    }
}

inline void expect_same_bits(const Tensor& a, const Tensor& b) {
  ASSERT_EQ(a.rows, b.rows);
  ASSERT_EQ(a.cols, b.cols);
  for (int64_t i = 0; i < a.rows; ++i)
    if (std::memcmp(a.row_bytes(i), b.row_bytes(i),
                    static_cast<size_t>(a.cols * size_of(a.dtype)))) {
      for (int64_t j = 0; j < a.cols; ++j)
        ASSERT_EQ(element(a, i, j), element(b, i, j)) << "at " << i << ", " << j;
      FAIL() << "bits differ in row " << i;
    }
}

// What a product can be computed in: the dtype, and for bf16 the path.
struct Way {
  DType dtype;
  cpu::Bf16Path path;
  const char* name;
};
inline constexpr Way ways[] = {{DType::f32, cpu::Bf16Path::as_f32, "f32"},
                               {DType::bf16, cpu::Bf16Path::amx, "amx"},
                               {DType::bf16, cpu::Bf16Path::avx512, "avx512"},
                               {DType::bf16, cpu::Bf16Path::as_f32, "as_f32"}};

// Tests that run in every way this processor has.
class EveryWay : public ::testing::TestWithParam<Way> {
 protected:
  void SetUp() override {
    if (!cpu::bf16_path_supported(GetParam().path)) GTEST_SKIP() << "not on this processor";
    if (GetParam().dtype == DType::bf16) cpu::set_bf16_path(GetParam().path);
  }
  void TearDown() override { cpu::set_bf16_path(std::nullopt); }
  DType dtype() const { return GetParam().dtype; }
};

}  // namespace tandem::testing
