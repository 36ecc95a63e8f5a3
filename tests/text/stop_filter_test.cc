#include "tandem/text/stop_filter.h"

#include <gtest/gtest.h>

namespace tandem {
namespace {

TEST(StopFilter, HoldsBackWhatMayBeTheBeginning) {
  StopFilter filter({"STOP", "END"});
  EXPECT_EQ(filter.push("a S"), "a ");
  EXPECT_EQ(filter.push("T"), "");
  EXPECT_EQ(filter.push("AR EN"), "STAR ");
  EXPECT_EQ(filter.finish(), "EN");
  EXPECT_FALSE(filter.stopped());
}

TEST(StopFilter, EndsBeforeTheOneThatComesFirst) {
  StopFilter filter({"later", "now"});
  EXPECT_EQ(filter.push("not yet, n"), "not yet, ");
  EXPECT_EQ(filter.push("ow and later"), "");
  EXPECT_TRUE(filter.stopped());
  EXPECT_EQ(filter.push("more"), "");
  EXPECT_EQ(filter.finish(), "");
}

TEST(StopFilter, PassesAllWithoutStopTexts) {
  StopFilter filter({});
  EXPECT_EQ(filter.push("abc"), "abc");
  EXPECT_EQ(filter.finish(), "");
}

}  // namespace
}  // namespace tandem
