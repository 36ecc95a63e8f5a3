#include "tandem/serve/load.h"

#include <fmt/format.h>

#include "serve/http_fixture.h"

namespace tandem::test {
namespace {

LoadSettings settings_for(const TestServer& server) {
  return {.url = fmt::format("http://127.0.0.1:{}/v1/", server.server.port()),
          .clients = 4,
          .seconds = 0.3,
          .prompt_tokens = 9,
          .max_tokens = 5,
          .ignores_end = true};
}

TEST(Quantiles, AreValuesThatOccur) {
  EXPECT_EQ(quantiles({}).p50, 0);
  EXPECT_EQ(quantiles({3}).p99, 3);
  std::vector<double> values;
  for (int i = 100; i > 0; --i) values.push_back(i);
  EXPECT_EQ(quantiles(values).p50, 50);
  EXPECT_EQ(quantiles(values).p90, 90);
  EXPECT_EQ(quantiles(values).p99, 99);
}

TEST(Load, CountsWhatTheServerCounts) {
  const TestServer server;
  for (const double rate : {0.0, 50.0}) {
    LoadSettings settings = settings_for(server);
    settings.rate_per_second = rate;
    const LoadResult result = run_load(settings);
    EXPECT_GT(result.requests, 0);
    EXPECT_EQ(result.failed(), 0);
    EXPECT_EQ(result.prompt_tokens, 9 * result.requests);
    EXPECT_EQ(result.answer_tokens, 5 * result.requests);
    EXPECT_GT(result.ttft_seconds.p50, 0);
    EXPECT_GE(result.tpot_seconds.p99, result.tpot_seconds.p50);
  }
}

TEST(Load, TakesLinesAsPrompts) {
  const TestServer server;
  LoadSettings settings = settings_for(server);
  settings.lines = {"four"};
  const LoadResult result = run_load(settings);
  EXPECT_EQ(result.prompt_tokens, 4 * result.requests);
}

TEST(Load, TellsWhatWentWrong) {
  const TestServer server({}, {.key = "secret"});
  LoadSettings settings = settings_for(server);
  settings.seconds = 0.05;
  EXPECT_THROW(run_load(settings), WorldError);  // it cannot ask for the model
  settings.model = "tiny";
  const LoadResult refused = run_load(settings);
  EXPECT_EQ(refused.errors.at("HTTP status 401"), refused.requests);
  settings.key = "secret";
  EXPECT_EQ(run_load(settings).failed(), 0);
  settings.model = "other";
  EXPECT_GT(run_load(settings).errors.at("HTTP status 404"), 0);
  settings.url = "nowhere";
  EXPECT_THROW(run_load(settings), InputError);
}

}  // namespace
}  // namespace tandem::test
