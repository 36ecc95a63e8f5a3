#include "tandem/state/kv_cache.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "model/refusal.h"
#include "tandem/device/cpu/cpu_device.h"

namespace tandem::test {
namespace {

// Every row that some slot of some length has stands in the cache and belongs to it alone.
void expect_apart(const KvCache& cache, const std::vector<int64_t>& lengths) {
  std::set<int32_t> rows;
  for (size_t slot = 0; slot < lengths.size(); ++slot)
    for (int64_t position = 0; position < lengths[slot]; ++position) {
      const int32_t row = cache.row(static_cast<int32_t>(slot), position);
      EXPECT_TRUE(rows.insert(row).second) << "slot " << slot << " position " << position;
      EXPECT_GE(row, 0);
      EXPECT_LT(row, cache.rows(0).rows);
    }
}

TEST(KvCache, HasTheMemoryThatWasPlanned) {
  const auto device = make_cpu_device(1);
  const KvCache cache(*device, 3, 24, DType::bf16, 5, kv_block_tokens + 1);
  for (int layer = 0; layer < 3; ++layer) {
    const Tensor& t = cache.rows(layer);
    EXPECT_EQ(t.rows, 5 * 2 * kv_block_tokens);
    EXPECT_EQ(t.cols, 24);
    EXPECT_EQ(t.dtype, DType::bf16);
  }
  EXPECT_EQ(cache.bytes(), 3 * 5 * 2 * kv_block_tokens * 24 * 2);
}

TEST(KvCache, BlocksHoldConsecutivePositions) {
  const auto device = make_cpu_device(1);
  KvCache cache(*device, 1, 8, DType::f32, 3, 200);
  cache.reserve(1, 1);
  EXPECT_EQ(cache.block_rows(1).size(), 1u);
  cache.reserve(1, kv_block_tokens);
  EXPECT_EQ(cache.block_rows(1).size(), 1u);
  cache.reserve(1, 200);
  ASSERT_EQ(cache.block_rows(1).size(), 4u);
  for (int64_t p = 0; p < 200; ++p)
    EXPECT_EQ(cache.row(1, p), cache.block_rows(1)[p / kv_block_tokens] + p % kv_block_tokens);
  cache.reserve(1, 3);  // never less than before
  EXPECT_EQ(cache.block_rows(1).size(), 4u);
}

TEST(KvCache, IsUsedUpOneBlockBehindItsLast) {
  const auto device = make_cpu_device(1);
  KvCache cache(*device, 1, 8, DType::f32, 2, 2 * kv_block_tokens);
  cache.reserve(0, 3 * kv_block_tokens);  // more than its share, while others have less
  cache.reserve(4, kv_block_tokens);
  EXPECT_EQ(refusal([&] { cache.reserve(4, kv_block_tokens + 1); }),
            "the K/V memory is used up: slot 4 asks for 65 tokens");
  cache.release(0);
  EXPECT_NO_THROW(cache.reserve(4, 4 * kv_block_tokens));
  cache.release(99);  // never had anything
}

TEST(KvCache, NoRowIsGivenTwiceWhateverComesAndGoes) {
  constexpr unsigned seed = 3;
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  const auto device = make_cpu_device(1);
  constexpr int slots = 7;
  KvCache cache(*device, 1, 4, DType::f32, slots, 300);
  std::vector<int64_t> lengths(slots);
  for (int step = 0; step < 300; ++step) {
    const auto slot = static_cast<int32_t>(random() % slots);
    if (random() % 4 == 0) {
      cache.release(slot);
      lengths[slot] = 0;
    } else {
      lengths[slot] = std::min<int64_t>(300, lengths[slot] + random() % 90);
      cache.reserve(slot, lengths[slot]);
    }
    expect_apart(cache, lengths);
  }
}

}  // namespace
}  // namespace tandem::test
