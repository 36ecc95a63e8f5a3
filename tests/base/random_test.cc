#include "tandem/base/random.h"

#include <gtest/gtest.h>

#include <set>

namespace tandem {
namespace {

using Block = std::array<uint32_t, 4>;

// Known answers of Random123 (Salmon et al.), philox4x32 with ten rounds.
TEST(Random, PhiloxKnownAnswers) {
  EXPECT_EQ(philox({0, 0, 0, 0}, {0, 0}), (Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Random, NumbersOfABlockAreItsWords) {
  const RandomSource source(1, RandomStream::sampling, 2, 3);
  for (uint64_t i = 0; i < 40; ++i) EXPECT_EQ(source.bits(9, i), source.block(9, i / 4)[i % 4]);
}

TEST(Random, EverythingInTheAddressMatters) {
  std::set<uint32_t> seen;
  int count = 0;
  for (const uint64_t seed : {uint64_t{0}, uint64_t{1}, uint64_t{1} << 40}) {
    for (const auto stream : {RandomStream::hidden_dropout, RandomStream::expert_dropout}) {
      for (const uint32_t step : {0u, 1u}) {
        for (const uint32_t layer : {0u, 1u}) {
          for (const uint64_t item : {uint64_t{0}, uint64_t{5}, uint64_t{5} << 32}) {
            seen.insert(RandomSource(seed, stream, step, layer).bits(item, 3));
            ++count;
          }
        }
      }
    }
  }
  EXPECT_EQ(seen.size(), static_cast<size_t>(count));
}

TEST(Random, UniformLiesInTheUnitInterval) {
  EXPECT_EQ(unit_float(0), 0);
  EXPECT_EQ(unit_float(0xFFFFFFFF), 1 - 0x1p-24f);
  const RandomSource source(3, RandomStream::data_order);
  double sum = 0;
  for (uint64_t i = 0; i < 10000; ++i) sum += static_cast<double>(source.uniform(0, i));
  EXPECT_NEAR(sum / 10000, 0.5, 0.02);
}

}  // namespace
}  // namespace tandem
