#include "tandem/base/interval.h"

#include <gtest/gtest.h>

namespace tandem {
namespace {

TEST(Interval, KnowsItsSizeAndWhatIsIn) {
  const Interval a{3, 7};
  EXPECT_EQ(a.size(), 4);
  EXPECT_FALSE(a.empty());
  EXPECT_TRUE((Interval{5, 5}.empty()));
  EXPECT_TRUE(a.contains(3));
  EXPECT_TRUE(a.contains(6));
  EXPECT_FALSE(a.contains(7));
  EXPECT_FALSE(a.contains(2));
  EXPECT_TRUE(a.contains(Interval{4, 7}));
  EXPECT_FALSE(a.contains(Interval{2, 5}));
  EXPECT_EQ(a.shifted(-3), (Interval{0, 4}));
}

TEST(Interval, OverlapIsTheCommonPart) {
  EXPECT_EQ(overlap({0, 5}, {3, 9}), (Interval{3, 5}));
  EXPECT_EQ(overlap({3, 9}, {0, 5}), (Interval{3, 5}));
  EXPECT_EQ(overlap({0, 9}, {3, 5}), (Interval{3, 5}));
  EXPECT_EQ(overlap({0, 3}, {3, 5}).size(), 0);
  EXPECT_EQ(overlap({0, 2}, {7, 9}), (Interval{7, 7}));
}

// Parts follow each other without gap, and differ by one at most.
TEST(Interval, PartsCoverTheWhole) {
  for (const int64_t total : {0, 1, 2, 7, 16, 100, 12345}) {
    for (const int64_t count : {1, 2, 3, 7, 16, 101}) {
      int64_t next = 0;
      for (int64_t i = 0; i < count; ++i) {
        const Interval p = part(total, count, i);
        EXPECT_EQ(p.begin, next);
        EXPECT_GE(p.size(), total / count);
        EXPECT_LE(p.size(), (total + count - 1) / count);
        next = p.end;
      }
      EXPECT_EQ(next, total);
    }
  }
  EXPECT_EQ(part(Interval{10, 20}, 2, 1), (Interval{15, 20}));
}

}  // namespace
}  // namespace tandem
