#include "tandem/report/html.h"

#include <gtest/gtest.h>

#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "tandem/base/error.h"
#include "tandem/report/assets.h"

namespace tandem {
namespace {

using nlohmann::json;

// The data of each chart in a page, parsed back.
std::vector<json> data_of(const std::string& html) {
  const std::string open = "<script type=\"application/json\">";
  std::vector<json> found;
  for (size_t at = 0; (at = html.find(open, at)) != html.npos;) {
    at += open.size();
    const size_t end = html.find("</script>", at);
    found.push_back(json::parse(html.substr(at, end - at)));
    at = end;
  }
  return found;
}

size_t occurrences(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = 0; (at = text.find(part, at)) != text.npos; at += part.size()) ++count;
  return count;
}

// Every element that is opened is closed, in order. Our own elements alone are looked at.
void expect_well_formed(const std::string& html) {
  const size_t libraries = html.find("<script>");
  std::vector<std::string> open;
  for (size_t at = 0; (at = html.find('<', at)) < libraries;) {
    const size_t end = html.find('>', at);
    const std::string tag = html.substr(at + 1, end - at - 1);
    at = end;
    const bool closing = tag.starts_with('/');
    const std::string name = tag.substr(closing, tag.find_first_of(" \n/", closing) - closing);
    if (name == "meta" || name == "!doctype" || tag.ends_with('/')) continue;
    if (!closing) {
      open.push_back(name);
    } else {
      ASSERT_FALSE(open.empty()) << name;
      EXPECT_EQ(open.back(), name);
      open.pop_back();
    }
  }
  EXPECT_EQ(open, (std::vector<std::string>{"html", "body"}));
}

HtmlReport everything() {
  HtmlReport report("A <run>", "subtitle & more");
  report.heading("Speed");
  report.paragraph("Text with <b>marks</b>");
  report.figures({{"tokens/s", "1,234"}});
  Table table({{"name", Align::left}, {"time"}});
  table.add_row({"<script>alert(1)</script>", "1 ms"});
  report.table("Operations", table);
  report.line_chart({"Loss", "step", "loss", {{"train", {{1, 5}, {2, 4.5}}}, {"val", {{2, 4}}}}});
  report.bar_chart({"Bars", "tokens/s", {"a", "b"}, {{"ours", {1, 2}}, {"</script>", {3, 4}}}});
  report.heat_map({"Load", "layer", "expert", {"0", "1"}, {"0", "1", "2"}, {0, 1, 2, 3, 4, 9}});
  std::vector<RankSpans> ranks{{.rank = 0, .attention = true}};
  ranks[0].spans = {{.name = "a", .lane = Lane::attention, .end_seconds = 1}};
  report.timeline("Ranks", ranks, {0, 2});
  return report;
}

TEST(HtmlReport, IsOneWellFormedFileThatFetchesNothing) {
  const std::string html = everything().html();
  EXPECT_TRUE(html.starts_with("<!doctype html>"));
  expect_well_formed(html);
  EXPECT_EQ(html.find("src="), html.npos) << html.substr(html.find("src="), 80);
  EXPECT_EQ(html.find("<link"), html.npos);
  EXPECT_EQ(html.find("@import"), html.npos);
  EXPECT_EQ(std::string(page_style()).find("url("), std::string::npos);
}

TEST(HtmlReport, TextIsEscaped) {
  const std::string html = everything().html();
  EXPECT_NE(html.find("<title>A &lt;run&gt;</title>"), html.npos);
  EXPECT_NE(html.find("subtitle &amp; more"), html.npos);
  EXPECT_NE(html.find("Text with &lt;b&gt;marks&lt;/b&gt;"), html.npos);
  EXPECT_EQ(html.find("<script>alert"), html.npos);
}

TEST(HtmlReport, ChartDataParsesBack) {
  const auto data = data_of(everything().html());
  ASSERT_EQ(data.size(), 3u);
  EXPECT_EQ(data[0]["series"][0],
            json::parse(R"({"name":"train","points":[[1.0,5.0],[2.0,4.5]]})"));
  EXPECT_EQ(data[1]["series"][1], json::parse(R"({"name":"</script>","values":[3.0,4.0]})"));
  EXPECT_EQ(data[2]["values"], json::parse("[0.0,1.0,2.0,3.0,4.0,9.0]"));
}

TEST(HtmlReport, EveryChartHasATextAlternative) {
  const std::string html = everything().html();
  EXPECT_EQ(occurrences(html, "role=\"img\""), 4u);
  EXPECT_EQ(occurrences(html, "role=\"img\" aria-label=\""), 4u);
  EXPECT_EQ(occurrences(html, "<details>"), 4u);
}

TEST(HtmlReport, ValuesThatAreNoNumbersAreLeftOut) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  HtmlReport report("t");
  report.line_chart({"l", "x", "y", {{"s", {{1, nan}, {2, 3}}}}});
  report.heat_map({"h", "r", "c", {"0"}, {"0", "1"}, {nan, 2}});
  const auto data = data_of(report.html());
  EXPECT_TRUE(data[0]["series"][0]["points"][0][1].is_null());
  EXPECT_TRUE(data[1]["values"][0].is_null());
}

TEST(HtmlReport, LongSeriesKeepTheirLastRowInTheTable) {
  LineChart chart{"l", "step", "loss", {{"s", {}}}};
  for (int i = 1; i <= 1003; ++i) chart.series[0].points.emplace_back(i, i / 7.0);
  HtmlReport report("t");
  report.line_chart(chart);
  const std::string html = report.html();
  EXPECT_LE(occurrences(html, "<tr>"), 203u);
  EXPECT_NE(html.find("<td>1003</td>"), html.npos);
  EXPECT_EQ(data_of(html)[0]["series"][0]["points"].size(), 1003u);
}

TEST(HtmlReport, ChartLibraryOnlyWhereThereIsAChart) {
  HtmlReport report("t");
  report.paragraph("p");
  EXPECT_LT(report.html().size(), 20'000u);
  report.bar_chart({"b", "y", {"g"}, {{"s", {1}}}});
  EXPECT_GT(report.html().size(), page_script().size() + chart_library().size());
  EXPECT_NE(chart_library().find("Chart.js"), std::string_view::npos);
}

TEST(HtmlReport, TimelineShowsSharesOfTime) {
  std::vector<RankSpans> ranks{{.rank = 3, .attention = true}};
  ranks[0].spans = {{.name = "a", .lane = Lane::attention, .start_seconds = 0, .end_seconds = 1},
                    {.name = "a", .lane = Lane::attention, .start_seconds = 0.5, .end_seconds = 1},
                    {.name = "w", .lane = Lane::wait, .start_seconds = 1, .end_seconds = 1.5},
                    {.name = "m", .lane = Lane::message, .start_seconds = 3, .end_seconds = 100},
                    {.name = "x", .lane = Lane::expert, .start_seconds = -9, .end_seconds = -8}};
  HtmlReport report("t");
  report.timeline("Ranks", ranks, {0, 4});
  const std::string html = report.html();
  EXPECT_NE(html.find("rank 3 (attention): attention 25.0 %, expert 0.0 %, wait 12.5 %, "
                      "message 25.0 %"),
            html.npos);
  // 1000 pieces: attention fills the first 250, waiting the next 125, messages the last 250.
  EXPECT_NE(html.find("<path class=\"attention\" d=\"M0 0h250v20h-250z\"/>"), html.npos);
  EXPECT_NE(html.find("<path class=\"wait\" d=\"M250 0h125v20h-125z\"/>"), html.npos);
  EXPECT_NE(html.find("<path class=\"message\" d=\"M750 22h250v4h-250z\"/>"), html.npos);
  EXPECT_EQ(html.find("<path class=\"expert\""), html.npos);
}

TEST(HtmlReport, TimelineOfAnEmptyWindow) {
  HtmlReport report("t");
  report.timeline("Ranks", std::vector<RankSpans>{{.rank = 0}}, {1, 1});
  EXPECT_NE(report.html().find("attention 0.0 %"), std::string::npos);
}

class HtmlFile : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::path(testing::TempDir()) /
              testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::filesystem::path folder_;
};

TEST_F(HtmlFile, ReplacesTheOldOneAndLeavesNothingElse) {
  const auto file = folder_ / "report.html";
  std::ofstream(file) << "old";
  const HtmlReport report = everything();
  report.write(file);
  std::ifstream in(file);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(in), {}), report.html());
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1);
}

TEST_F(HtmlFile, FailuresAreWorldErrorsAndLeaveNothing) {
  const HtmlReport report("t");
  EXPECT_THROW(report.write(folder_ / "missing" / "report.html"), WorldError);
  const auto folder = folder_ / "taken.html";  // a folder where the file should go
  std::filesystem::create_directories(folder / "x");
  try {
    report.write(folder);
    FAIL();
  } catch (const WorldError& error) {
    EXPECT_NE(std::string(error.what()).find("taken.html"), std::string::npos);
  }
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1);
}

}  // namespace
}  // namespace tandem
