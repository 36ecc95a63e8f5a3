#include "tandem/device/cpu/random_lanes.h"

#include <gtest/gtest.h>

namespace tandem::cpu {
namespace {

// Each number is that of the source, wherever rows and columns begin and end, and nothing else is
// written.
TEST(DropoutMask, IsThatOfTheSource) {
  const RandomSource source(7, RandomStream::expert_dropout, 3, 2);
  const std::vector<uint64_t> keys = {11, uint64_t{5} << 40, 3, 12, 13};
  constexpr float probability = 0.25f, untouched = -1;
  for (const Interval features : {Interval{0, 32},
                                  {5, 6},
                                  {3, 41},
                                  {8, 8},
                                  {(int64_t{1} << 35) + 1, (int64_t{1} << 35) + 90}})
    for (const size_t rows : {1, 2, 5}) {
      const int64_t stride = features.size() + 3;
      std::vector<float> out(rows * static_cast<size_t>(stride), untouched);
      dropout_mask(source, probability, std::span(keys).first(rows), features, out.data(), stride);
      for (size_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < stride; ++j) {
          const auto feature = static_cast<uint64_t>(features.begin + j);
          const float expected = j >= features.size()                              ? untouched
                                 : source.uniform(keys[i], feature) >= probability ? 1 / 0.75f
                                                                                   : 0;
          ASSERT_EQ(out[i * static_cast<size_t>(stride) + static_cast<size_t>(j)], expected)
              << features.begin << " to " << features.end << ", row " << i << ", column " << j;
        }
    }
}

}  // namespace
}  // namespace tandem::cpu
