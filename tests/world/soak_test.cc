// Processes die, or fall silent, at random moments of generation and training (make soak;
// SOAK_TIMES, SOAK_SEED in the environment). Nothing of it may show in what comes out.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <random>
#include <thread>

#include "tandem/base/clock.h"
#include "world/processes.h"
#include "world/training.h"

namespace tandem::test {
namespace {

int number_from_environment(const char* name, int otherwise) {
  const char* text = std::getenv(name);
  return text ? std::atoi(text) : otherwise;
}

struct Disturbance {
  std::string name;
  std::vector<int> processes;  // by the number of ranks that come before them
  int signal = SIGKILL;
};

struct Setting {
  const char* plan;
  int ranks;
  bool mirrored;  // attention's K/V
};
constexpr std::array<Setting, 4> settings = {
    {{"ma:attention=4,experts=2,batch=2,sequence=2", 6, true},
     {"ma:attention=2,experts=3,replicas=2", 5, false},
     {"ma:attention=2,experts=2,sequence=2,micro_batches=2", 4, true},
     {"ep:ranks=4", 4, false}}};

Disturbance draw(const Setting& setting, std::mt19937& random) {
  const auto any = [&] { return static_cast<int>(random() % setting.ranks); };
  switch (random() % 5) {
    case 0:
      return {"the first", {0}};
    case 1: {
      const int one = any();
      return {"two", {one, (one + 1 + any()) % setting.ranks}};
    }
    case 2:
      return {"silent", {any()}, SIGSTOP};
    case 3:
      return {"of experts", {setting.ranks - 1}};
    default:
      return {"any", {any()}};
  }
}

// Sends its signals after some seconds.
class Later {
 public:
  Later(Processes& processes, const Disturbance& disturbance, double seconds)
      : thread_([&processes, disturbance, seconds] {
          std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
          for (const int process : disturbance.processes)
            processes.send_signal(process, disturbance.signal);
        }) {}
  ~Later() { thread_.join(); }

 private:
  std::thread thread_;
};

std::string summary(std::vector<double> seconds) {
  if (seconds.empty()) return "none";
  std::ranges::sort(seconds);
  return fmt::format("{} times, median {:.3f} s, most {:.3f} s", seconds.size(),
                     seconds[seconds.size() / 2], seconds.back());
}

struct Stalls {
  std::vector<double> mirrored, others, silent;
  void add(const Setting& setting, const Disturbance& disturbance, double seconds) {
    (disturbance.signal == SIGSTOP ? silent
     : setting.mirrored            ? mirrored
                                   : others)
        .push_back(seconds);
  }
};

void disturb_generation(const Setting& setting, const Disturbance& disturbance,
                        std::mt19937& random, Stalls& stalls) {
  const ModelConfig model = small_model();
  ParameterStore store = random_store(model, DType::bf16);
  std::vector<std::vector<int32_t>> prompts;
  for (int i = 0; i < 4; ++i)
    prompts.push_back(random_tokens(random(), i, 9 + i, model.vocab_size));
  const Plan plan = make_plan(setting.plan, model);
  const Generation expected = generate(plan, store, prompts, 100);
  Processes processes(setting.ranks, 0.8);
  Engine engine(plan, store, processes.world());
  engine.infer({}, false);  // everybody sits
  std::vector<double> ends;
  const Later later(processes, disturbance, 0.001 * static_cast<double>(random() % 400));
  const Generation actual =
      generate(engine, prompts, 100, 1 << 20, 0, [&](int) { ends.push_back(wall_seconds()); });
  EXPECT_EQ(actual.tokens, expected.tokens);
  double longest = 0;
  for (size_t i = 1; i < ends.size(); ++i) longest = std::max(longest, ends[i] - ends[i - 1]);
  if (engine.recoveries() > 0) stalls.add(setting, disturbance, longest);
}

void disturb_training(const Setting& setting, const Disturbance& disturbance,
                      std::mt19937& random) {
  const ModelConfig model = small_model();
  ParameterStore here = random_store(model, DType::f32), there = random_store(model, DType::f32);
  const Plan plan = make_plan(setting.plan, model);
  Engine local(plan, here, {.rank = {.timeout_seconds = 60, .trainable = true}});
  Processes processes(setting.ranks, 0.8);
  Engine cluster(plan, there, processes.world(true));
  const Later later(processes, disturbance, 0.001 * static_cast<double>(random() % 600));
  constexpr int steps = 20;
  std::vector<double> losses;
  while (std::ssize(losses) < steps) {
    const auto done = static_cast<int>(losses.size());
    try {
      losses.push_back(
          cluster.train(random_batch(model, 4, done), {.step = done + 1, .learning_rate = 0.01f})
              .loss);
    } catch (const StateLost&) {
      for (bool back = false; !back;) try {
          cluster.send_weights(there);
          back = true;
        } catch (const StateLost&) {
        }
      losses.clear();
    }
  }
  for (int i = 0; i < steps; ++i)
    EXPECT_EQ(losses[i],
              local.train(random_batch(model, 4, i), {.step = i + 1, .learning_rate = 0.01f}).loss);
}

TEST(Soak, DISABLED_ProcessesDieAtRandomMoments) {
  const int times = number_from_environment("SOAK_TIMES", 50);
  const auto seed = static_cast<unsigned>(number_from_environment("SOAK_SEED", 1));
  std::mt19937 random(seed);
  Stalls stalls;
  for (int i = 0; i < times; ++i) {
    const Setting& setting = settings[random() % settings.size()];
    const Disturbance disturbance = draw(setting, random);
    const bool training = random() % 3 == 0;
    SCOPED_TRACE(fmt::format("seed {}, time {}: {} under {}, {}", seed, i, disturbance.name,
                             setting.plan, training ? "training" : "generation"));
    fmt::print(stderr, "{} of {}: {} under {}, {}\n", i + 1, times, disturbance.name, setting.plan,
               training ? "training" : "generation");
    if (training)
      disturb_training(setting, disturbance, random);
    else
      disturb_generation(setting, disturbance, random, stalls);
  }
  fmt::print(
      "longest pause between two steps of generation, where a process was lost\n"
      "  K/V mirrored: {}\n  not mirrored: {}\n  silent:       {}\n",
      summary(stalls.mirrored), summary(stalls.others), summary(stalls.silent));
}

}  // namespace
}  // namespace tandem::test
