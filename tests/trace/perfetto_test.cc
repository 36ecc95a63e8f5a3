#include "tandem/trace/perfetto.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tandem/base/error.h"

namespace tandem {
namespace {

using nlohmann::json;

class Perfetto : public testing::Test {
 protected:
  json written(std::span<const RankSpans> ranks) {
    write_perfetto(file_, ranks);
    std::ifstream in(file_);
    return json::parse(in);
  }
  // Events of one phase: "X" spans, "M" names.
  static std::vector<json> events(const json& trace, const std::string& phase) {
    std::vector<json> found;
    for (const json& event : trace.at("traceEvents"))
      if (event.at("ph") == phase) found.push_back(event);
    return found;
  }
  void TearDown() override { std::filesystem::remove(file_); }

  std::filesystem::path file_ =
      std::filesystem::path(testing::TempDir()) /
      (std::string(testing::UnitTest::GetInstance()->current_test_info()->name()) + ".json");
};

TEST_F(Perfetto, SpansBecomeCompleteEvents) {
  std::vector<RankSpans> ranks{{.rank = 3, .attention = true}};
  ranks[0].spans = {{.name = "qkv",
                     .lane = Lane::attention,
                     .layer = 5,
                     .micro_batch = 1,
                     .start_seconds = 10,
                     .end_seconds = 10.5,
                     .cost = {1e12, 2048}},
                    {.name = "send",
                     .lane = Lane::message,
                     .kind = MessageKind::dispatch,
                     .backward = true,
                     .peer = 7,
                     .start_seconds = 10.25,
                     .end_seconds = 10.2500015}};
  const json trace = written(ranks);
  const auto spans = events(trace, "X");
  ASSERT_EQ(spans.size(), 2u);
  EXPECT_EQ(spans[0], json::parse(R"({"ph":"X","name":"qkv","cat":"attention","pid":3,"tid":0,
      "ts":0.0,"dur":500000.0,
      "args":{"flops":1000000000000,"bytes":2048,"layer":5,"micro_batch":1}})"));
  EXPECT_EQ(spans[1]["tid"], 3);
  EXPECT_DOUBLE_EQ(spans[1]["ts"], 250000);
  EXPECT_DOUBLE_EQ(spans[1]["dur"], 1.5);
  EXPECT_EQ(spans[1]["args"], json::parse(R"({"flops":0,"bytes":0,"peer":7,"kind":"dispatch",
                                              "backward":true})"));
}

TEST_F(Perfetto, ProcessesAndThreadsHaveNames) {
  std::vector<RankSpans> ranks{{.rank = 3, .attention = true}, {.rank = 4, .expert = true}};
  ranks[0].spans = {{.name = "w", .lane = Lane::wait, .start_seconds = 0, .end_seconds = 1}};
  std::map<std::pair<int, std::string>, json> names;
  for (const json& event : events(written(ranks), "M"))
    names[{event.at("pid"), event.at("name")}] = event.at("args");
  EXPECT_EQ((names[{3, "process_name"}]["name"]), "rank 3 (attention)");
  EXPECT_EQ((names[{4, "process_name"}]["name"]), "rank 4 (expert)");
  EXPECT_EQ((names[{3, "thread_name"}]["name"]), "wait");
}

TEST_F(Perfetto, OverlappingMessagesGetThreadsOfTheirOwn) {
  std::vector<RankSpans> ranks{{.rank = 0}};
  for (const auto& [start, end] : {std::pair{0.0, 3.0}, {2.0, 5.0}, {1.0, 2.0}, {3.0, 4.0}})
    ranks[0].spans.push_back(
        {.name = "m", .lane = Lane::message, .start_seconds = start, .end_seconds = end});
  std::map<double, int> thread_by_start;
  for (const json& span : events(written(ranks), "X"))
    thread_by_start[span.at("ts").get<double>() * 1e-6] = span.at("tid");
  EXPECT_EQ(thread_by_start, (std::map<double, int>{{0, 3}, {1, 7}, {2, 7}, {3, 3}}));
}

TEST_F(Perfetto, NamesAreEscaped) {
  std::vector<RankSpans> ranks{{.rank = 0}};
  ranks[0].spans = {{.name = "a \"quoted\" \\ name\n\x01"}, {.name = "broken \xff byte"}};
  const auto spans = events(written(ranks), "X");
  EXPECT_EQ(spans[0]["name"], "a \"quoted\" \\ name\n\x01");
  EXPECT_EQ(spans[1]["name"], "broken \xEF\xBF\xBD byte");
}

TEST_F(Perfetto, NoSpansIsAValidTrace) { EXPECT_TRUE(written({}).at("traceEvents").empty()); }

TEST_F(Perfetto, FailuresOfTheFileAreWorldErrors) {
  std::vector<RankSpans> ranks{{.rank = 0}};
  ranks[0].spans.resize(10);
  for (const char* file : {"/nowhere/trace.json", "/dev/full"}) {
    try {
      write_perfetto(file, ranks);
      FAIL() << file;
    } catch (const WorldError& error) {
      EXPECT_NE(std::string(error.what()).find(file), std::string::npos) << error.what();
    }
  }
  EXPECT_TRUE(std::filesystem::exists("/dev/full"));
}

}  // namespace
}  // namespace tandem
