#include "tandem/balance/time_model.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tandem/base/random.h"

namespace tandem {
namespace {

// Times as a device might take them: weights of each expert are read, rows computed.
std::vector<TimedWork> measurements(uint64_t seed, int count, double noise, bool attention) {
  const RandomSource random(seed, RandomStream::prompts);
  std::vector<TimedWork> samples;
  for (int i = 0; i < count; ++i) {
    const auto draw = [&](uint64_t index) { return double{random.uniform(i, index)}; };
    TimedWork& sample = samples.emplace_back();
    sample.work = {.tokens = 8 + 120 * draw(0),
                   .context_tokens = attention ? 100 + 900 * draw(1) : 0,
                   .active = 1 + std::floor(7 * draw(2)),
                   .held = 8,
                   .hidden = 1024};
    sample.slowness = draw(3) < 0.2 ? 2 : 1;
    const LayerWork& w = sample.work;
    const double seconds =
        20e-6 + 3e-6 * w.tokens + 90e-6 * w.active + 5e-9 * w.active * w.tokens * w.context_tokens;
    sample.seconds = sample.slowness * seconds * (1 + noise * (2 * draw(4) - 1));
  }
  return samples;
}

TEST(LinearTimeModel, FindsWhatIsLinear) {
  for (const bool attention : {true, false}) {
    LinearTimeModel model;
    model.fit(measurements(1, 60, 0, attention));
    EXPECT_LT(relative_error(model, measurements(2, 60, 0, attention)), 5e-3);
    model.fit(measurements(1, 200, 0.1, attention));
    EXPECT_LT(relative_error(model, measurements(2, 60, 0, attention)), 0.03);
  }
}

TEST(LinearTimeModel, IsNeverNegativeAndZeroForNothing) {
  LinearTimeModel model;
  std::vector<TimedWork> falling;  // more work takes less time: nothing a device does
  for (int i = 1; i <= 10; ++i)
    falling.push_back({.work = {.tokens = 10.0 * i, .active = 1, .held = 1}, .seconds = 1.0 / i});
  model.fit(falling);
  for (int i = 1; i <= 100; ++i)
    EXPECT_GE(model.seconds({.tokens = 10.0 * i, .active = 1, .held = 1}, 1), 0);
  EXPECT_EQ(model.seconds({}, 1), 0);
}

TEST(NetworkTimeModel, LearnsAndGoesOnLearning) {
  for (const uint64_t seed : {1, 2, 3}) {
    NetworkTimeModel model(seed);
    const auto unseen = measurements(99, 100, 0, true);
    for (uint64_t interval = 0; interval < 10; ++interval)
      model.fit(measurements(interval, 100, 0.02, true));
    EXPECT_LT(relative_error(model, unseen), 0.1) << "seed " << seed;
  }
}

TEST(NetworkTimeModel, IsTheSameForTheSameSeed) {
  NetworkTimeModel one(5), other(5), third(6);
  for (NetworkTimeModel* model : {&one, &other, &third}) model->fit(measurements(1, 50, 0, false));
  const LayerWork work{.tokens = 17, .active = 3, .held = 3, .hidden = 1024};
  EXPECT_EQ(one.seconds(work, 1), other.seconds(work, 1));
  EXPECT_NE(one.seconds(work, 1), third.seconds(work, 1));
}

}  // namespace
}  // namespace tandem
