#include "tandem/train/progress.h"

#include <gtest/gtest.h>

#include <memory>

namespace tandem {
namespace {

// What a Progress writes, under a clock set by hand.
class ProgressTest : public testing::Test {
 protected:
  ProgressOptions options(bool terminal) {
    return {.out = file_.get(), .terminal = terminal, .now_seconds = [this] { return now_; }};
  }
  std::string written() {
    std::fflush(file_.get());
    std::rewind(file_.get());
    std::string text(10'000, '\0');
    text.resize(std::fread(text.data(), 1, text.size(), file_.get()));
    return text;
  }
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  double now_ = 100;
  std::unique_ptr<std::FILE, Close> file_{std::tmpfile()};
};

TEST_F(ProgressTest, PlainLinesEveryFewSeconds) {
  {
    Progress progress(10, options(false));
    for (int step = 0; step < 10; ++step) {
      now_ += 2;
      progress.step(step, 5.0 - 0.25 * step, 100);
    }
  }
  EXPECT_EQ(written(),
            "step 1/10  loss 5.0000  50 tokens/s  18s left\n"
            "step 4/10  loss 4.2500  50 tokens/s  12s left\n"
            "step 7/10  loss 3.5000  50 tokens/s  6s left\n"
            "step 10/10  loss 2.7500  50 tokens/s  0s left\n");
}

TEST_F(ProgressTest, TerminalLineIsRewritten) {
  {
    Progress progress(4000, options(true));
    now_ += 1;
    progress.step(0, 2, 10);
    now_ += 0.01;  // too soon to be shown
    progress.step(1, 2, 10);
    progress.note("validation loss 1.5");
    now_ += 0.99;
    progress.step(2, 1.5, 10);
  }
  EXPECT_EQ(written(),
            "\rstep 1/4000  loss 2.0000  10 tokens/s  1h06m left\x1b[K"
            "\rvalidation loss 1.5\x1b[K\n"
            "\rstep 3/4000  loss 1.5000  15 tokens/s  44m25s left\x1b[K\n");
}

TEST_F(ProgressTest, ResumedRunCountsItsOwnSteps) {
  Progress progress(1000, options(false));
  now_ += 1;
  progress.step(989, 1, 5);
  progress.finish();
  EXPECT_EQ(written(), "step 990/1000  loss 1.0000  5 tokens/s  10s left\n");
}

TEST_F(ProgressTest, NothingToldNothingWritten) {
  { Progress progress(10, options(true)); }
  EXPECT_EQ(written(), "");
}

}  // namespace
}  // namespace tandem
