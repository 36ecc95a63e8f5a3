#include "tandem/planner/reproduction.h"

#include <gtest/gtest.h>

#include <set>

namespace tandem {
namespace {

const std::filesystem::path papers = TANDEM_SOURCE_DIR "/configs/papers";

ClaimedValue value(double v) { return {.value = v}; }

TEST(Judge, AllowsTheToleranceAndNoMore) {
  const auto verdict = [](double claimed, double ours) {
    return judge(value(claimed), {.value = ours}, "ms", std::nullopt, 0.1).verdict;
  };
  EXPECT_EQ(verdict(10, 10.99), Verdict::reproduced);
  EXPECT_EQ(verdict(10, 9.01), Verdict::reproduced);
  EXPECT_EQ(verdict(10, 11.01), Verdict::not_reproducible);
  EXPECT_EQ(verdict(-10, -9.5), Verdict::reproduced);
  EXPECT_EQ(verdict(0, 0), Verdict::reproduced);
  EXPECT_EQ(verdict(0, 0.1), Verdict::not_reproducible);
}

TEST(Judge, TellsDirectionAndImpossibility) {
  const Figure ours{.value = 3, .least = 2, .most = 8, .limit = "the plan's floor"};
  const auto of = [&](double claimed, std::optional<bool> direction) {
    return judge(value(claimed), ours, "ms", direction, 0.1);
  };
  EXPECT_EQ(of(4, true).verdict, Verdict::direction_only);
  EXPECT_EQ(of(4, false).verdict, Verdict::not_reproducible);
  EXPECT_EQ(of(4, false).reason, "the other way round here");
  // What no run can be is said before the direction.
  EXPECT_EQ(of(1.5, true).verdict, Verdict::not_reproducible);
  EXPECT_EQ(of(1.5, true).reason, "below 2.00 ms: the plan's floor");
  EXPECT_EQ(of(9, true).reason, "above 8.00 ms: the plan's floor");
}

TEST(Judge, TakesBounds) {
  const ClaimedValue above{.value = 0, .above = true}, below{.value = 0, .below = true};
  EXPECT_EQ(judge(above, {.value = 1}, "%", {}, 0.1).verdict, Verdict::reproduced);
  EXPECT_EQ(judge(above, {.value = -1}, "%", {}, 0.1).verdict, Verdict::not_reproducible);
  EXPECT_EQ(judge(below, {.value = -1}, "%", {}, 0.1).verdict, Verdict::reproduced);
}

// Student's quantile for nine degrees of freedom is 2.262.
TEST(IntervalOfMean, IsStudents) {
  std::vector<double> values;
  for (int i = 0; i < 10; ++i) values.push_back(i);
  EXPECT_NEAR(interval_of_mean(values), 2.2622 * 3.02765 / std::sqrt(10), 1e-3);
  EXPECT_EQ(interval_of_mean({5}), 0);
}

TEST(Publication, OfThePapersHasAllTables) {
  const Publication papers_ = read_publication(papers / "ma-separation.yaml");
  std::set<std::string> numbers;
  for (const ClaimTable& table : papers_.tables) {
    EXPECT_FALSE(table.rows.empty()) << table.number;
    numbers.insert(table.number);
  }
  for (int i = 1; i <= 11; ++i) EXPECT_TRUE(numbers.contains(fmt::format("5.{}", i))) << i;
}

// A small publication on the papers' model: what is claimed is computed, what is settled is told,
// and no value of ours is outside of what its plan can do.
constexpr const char* small = R"(
title: small
systems: {tp: TP, ma: MA}
experiment: {model: ../models/ma-1024, cluster: ../clusters/a100-8.yaml, batch: 16, context: 64}
readings:
  a: {text: first, systems: {tp: "tp:ranks=4", ma: "ma:attention=2,experts=2"}}
  b: {text: second, like: a, context: 128}
tables:
  - table: "1"
    title: times
    readings: [a, b]
    rows:
      - {quantity: TPOT, unit: ms, metric: step_seconds, values: {tp: 1e-6, ma: 1e6}}
      - {quantity: gain, unit: "%", metric: step_seconds, compare: reduction, seeds: 3, values: {ma/tp: "< 100"}}
      - {quantity: recovery, values: {ma: 1}, pending: later}
)";

TEST(Reproduce, HoldsClaimsAgainstRuns) {
  const Publication p = parse_publication(small, papers / "small.yaml");
  int last = 0, all = 0;
  const auto findings = reproduce(p, {}, [&](int done, int of) {
    EXPECT_EQ(done, last + 1);
    last = done, all = of;
  });
  EXPECT_EQ(last, all);
  EXPECT_EQ(all, 2 * 2 * 3);
  ASSERT_EQ(findings.size(), 2u * 2 + 2 + 1);
  for (const Finding& f : findings) {
    SCOPED_TRACE(f.quantity + ", " + f.subject + ", " + f.reading);
    if (f.quantity == "TPOT" && f.subject == "TP") {
      EXPECT_EQ(f.judgement.verdict, Verdict::not_reproducible);
      EXPECT_NE(f.judgement.reason.find("the plan's floor"), std::string::npos);
    }
    if (f.quantity == "TPOT") {
      EXPECT_GT(*f.ours, 0);
    }
    if (f.quantity == "gain") {
      EXPECT_EQ(f.judgement.verdict, Verdict::reproduced);
      EXPECT_EQ(f.subject, "MA against TP");
      ASSERT_TRUE(f.interval);
    }
    if (f.quantity == "recovery") {
      EXPECT_EQ(f.judgement.verdict, Verdict::pending);
      EXPECT_FALSE(f.ours);
    }
  }
  EXPECT_LT(*findings[0].ours, *findings[2].ours);  // a longer context takes longer
}

TEST(Publication, NamesWhatIsWrong) {
  const auto refusal = [](const std::string& from, const std::string& to) {
    std::string text = small;
    text.replace(text.find(from), from.size(), to);
    try {
      parse_publication(text, papers / "small.yaml");
    } catch (const InputError& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  const auto expect = [&](const char* from, const char* to, const char* said) {
    EXPECT_NE(refusal(from, to).find(said), std::string::npos) << refusal(from, to);
  };
  expect("metric: step_seconds", "metric: steps", "metric: no metric 'steps'");
  expect("metric: step_seconds", "metric: memory.none", "'memory' has no part 'none'");
  expect("unit: ms", "unit: furlong", "no unit 'furlong'");
  expect("[a, b]", "[a, c]", "no reading 'c'");
  expect("like: a", "like: z", "no reading 'z' above this one");
  expect("tp: 1e-6", "pp: 1e-6", "no system 'pp'");
  expect("tp: 1e-6", "tp: fast", "'fast' is neither a number nor a bound");
  expect("ma/tp: \"< 100\"", "ma: 5", "goes with 'compare'");
  expect("batch: 16", "batches: 16", "'batches' is not a field");
  expect("compare: reduction", "compare: less", "'less' is none of none, ratio");
}

// From data sheets and one stated overhead, all rows alike: the step from two to three
// micro-batches within 25 %.
TEST(Reproduce, MegaScaleInfersPingPong) {
  const auto findings = reproduce(read_publication(papers / "megascale-infer.yaml"), {});
  EXPECT_EQ(findings.size(), 6u);
  for (const Finding& f : findings) {
    EXPECT_EQ(f.judgement.verdict, Verdict::reproduced)
        << f.quantity << ": printed " << f.claimed.value << ", ours " << *f.ours;
    EXPECT_GT(*f.ours, 1) << f.quantity;
  }
}

TEST(Reproduce, RefusesATableThatIsNotThere) {
  EXPECT_THROW(reproduce(parse_publication(small, papers / "small.yaml"), {"9.9"}), InputError);
}

}  // namespace
}  // namespace tandem
