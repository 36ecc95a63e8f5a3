#include "tandem/report/format.h"

#include <gtest/gtest.h>

#include <limits>

namespace tandem {
namespace {

TEST(Format, SiPrefixes) {
  EXPECT_EQ(format_si(1.5e12, "FLOP/s"), "1.50 TFLOP/s");
  EXPECT_EQ(format_si(15, "W"), "15.0 W");
  EXPECT_EQ(format_si(150, "W"), "150 W");
  EXPECT_EQ(format_si(999.6, "W"), "1.00 kW");
  EXPECT_EQ(format_si(9.996, "W"), "10.0 W");
  EXPECT_EQ(format_si(0, "W"), "0 W");
  EXPECT_EQ(format_si(-2500, "W"), "-2.50 kW");
  EXPECT_EQ(format_si(0.0021, ""), "2.10 m");
  EXPECT_EQ(format_si(12, ""), "12.0");
  EXPECT_EQ(format_si(5e21, "B"), "5000 EB");
}

TEST(Format, Bytes) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(512), "512 B");
  EXPECT_EQ(format_bytes(999), "999 B");
  EXPECT_EQ(format_bytes(1000), "1.00 kB");
  EXPECT_EQ(format_bytes(16.04e9), "16.0 GB");
}

TEST(Format, Seconds) {
  EXPECT_EQ(format_seconds(0), "0 s");
  EXPECT_EQ(format_seconds(850e-9), "850 ns");
  EXPECT_EQ(format_seconds(1.234e-3), "1.23 ms");
  EXPECT_EQ(format_seconds(42), "42.0 s");
  EXPECT_EQ(format_seconds(59.97), "1 min 0 s");
  EXPECT_EQ(format_seconds(125), "2 min 5 s");
  EXPECT_EQ(format_seconds(3600 * 3 + 60 * 4 + 2), "3 h 4 min");
  EXPECT_EQ(format_seconds(3600 * 2 - 1), "2 h 0 min");
  EXPECT_EQ(format_seconds(-125), "-2 min 5 s");
  EXPECT_EQ(format_seconds(std::numeric_limits<double>::infinity()), "inf s");
}

TEST(Format, CountsSharesNumbers) {
  EXPECT_EQ(format_count(0), "0");
  EXPECT_EQ(format_count(999), "999");
  EXPECT_EQ(format_count(1000), "1,000");
  EXPECT_EQ(format_count(-1234567), "-1,234,567");
  EXPECT_EQ(format_share(0.1234), "12.3 %");
  EXPECT_EQ(format_number(0), "0");
  EXPECT_EQ(format_number(3.14159), "3.142");
  EXPECT_EQ(format_number(123456.7), "123457");
  EXPECT_EQ(format_number(0.00012345), "0.0001234");
  EXPECT_EQ(format_number(1.5e-6), "1.500e-06");
}

}  // namespace
}  // namespace tandem
