#include "tandem/report/table.h"

#include <gtest/gtest.h>

namespace tandem {
namespace {

TEST(Table, AlignsColumns) {
  Table table({{"operation", Align::left}, {"time"}, {"note", Align::left}});
  table.add_row({"experts", "12.0 ms", "longest"});
  table.add_row({"qkv", "5 ms", ""});
  EXPECT_EQ(table.text(),
            "operation     time  note\n"
            "---------  -------  -------\n"
            "experts    12.0 ms  longest\n"
            "qkv           5 ms\n");
}

TEST(Table, CountsCharactersNotBytes) {
  Table table({{"a", Align::left}, {"b"}});
  table.add_row({"\xC2\xB5\xC3\xA9", "1"});
  table.add_row({"xyz", "22"});
  EXPECT_EQ(table.text(),
            "a     b\n"
            "---  --\n"
            "\xC2\xB5\xC3\xA9    1\n"
            "xyz  22\n");
}

TEST(Table, NoRows) { EXPECT_EQ(Table({{"a"}, {"bc"}}).text(), "a  bc\n-  --\n"); }

TEST(TableDeathTest, WrongNumberOfCells) {
  Table table({{"a"}, {"b"}});
  EXPECT_DEATH(table.add_row({"1"}), "1 cells for 2 columns");
}

}  // namespace
}  // namespace tandem
