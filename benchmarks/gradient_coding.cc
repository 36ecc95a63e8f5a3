// What coded gradients save and cost, and what becomes of the loss: a model trained on text by
// ranks that all hold it (copies), with every coding.
//   gradient_coding TEXT [STEPS]
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "tandem/device/cpu/cpu_device.h"
#include "tandem/plan/shorthand.h"
#include "tandem/train/data.h"
#include "tandem/train/schedule.h"

namespace tandem {
namespace {

struct Coding {
  const char* name;
  GradientCoding coding;
};
constexpr Coding codings[] = {{"plain", GradientCoding::plain},
                              {"top-k", GradientCoding::top_k},
                              {"int8", GradientCoding::int8},
                              {"top-k-int8", GradientCoding::top_k_int8}};

// Sums over all ranks.
struct Sums {
  double gradient_bytes = 0, other_bytes = 0, coding_seconds = 0, busy_seconds = 0;
};

Sums sums_of(const std::vector<RankSpans>& ranks) {
  Sums sums;
  for (const RankSpans& rank : ranks)
    for (const Span& span : rank.spans) {
      const double seconds = span.end_seconds - span.start_seconds;
      const std::string_view name = span.name;
      if (span.lane == Lane::message)
        (span.kind == MessageKind::gradient ? sums.gradient_bytes : sums.other_bytes) +=
            span.cost.bytes;
      if (span.lane <= Lane::expert) sums.busy_seconds += seconds;
      if (name == EncodeGradient::name || name == DecodeGradient::name)
        sums.coding_seconds += seconds;
    }
  return sums;
}

void run(const std::string& text, int64_t steps) {
  constexpr int64_t sequences = 8, length = 256;
  const ModelConfig model = read_config(TANDEM_SOURCE_DIR "/configs/models/ma-256/config.json");
  const Dataset data = Dataset::read(text,
                                     [](std::string_view t) {
                                       std::vector<int32_t> bytes;
                                       for (const char c : t)
                                         bytes.push_back(static_cast<unsigned char>(c));
                                       return bytes;
                                     },
                                     {.sequence_tokens = length, .seed = 1});
  const LearningRate rate{.peak = 1e-3, .warmup_steps = steps / 10, .total_steps = steps};
  const int64_t shown = std::max<int64_t>(steps / 6, 1);
  for (const Coding& c : codings) {
    const auto device = make_cpu_device(1);
    ParameterStore store = ParameterStore::random(model, 1, DType::f32, *device);
    Engine engine(make_plan("single:copies=2", model), store,
                  {.threads = 1, .rank = {.timeout_seconds = 60, .trainable = true}});
    fmt::print("{:11}", c.name);
    double sum = 0;
    for (int64_t step = 1; step <= steps; ++step) {
      engine.clear_spans();
      sum += engine
                 .train(data.batch(step - 1, sequences),
                        {.step = step,
                         .learning_rate = static_cast<float>(rate.at(step)),
                         .seed = 1,
                         .coding = c.coding})
                 .loss;
      if (step % shown != 0) continue;
      fmt::print(" {:.4f}", sum / static_cast<double>(shown));
      std::fflush(stdout);
      sum = 0;
    }
    const Sums sums = sums_of(engine.spans());
    fmt::print("; gradients and weights {:.2f} MB a step; coding {:.2f} % of the computing\n",
               sums.gradient_bytes / 1e6, 100 * sums.coding_seconds / sums.busy_seconds);
  }
}

}  // namespace
}  // namespace tandem

int main(int count, char** arguments) {
  if (count < 2) {
    fmt::print(stderr, "gradient_coding TEXT [STEPS]\n");
    return 2;
  }
  fmt::print("mean loss of each sixth of the steps\n");
  tandem::run(arguments[1], count > 2 ? std::atoll(arguments[2]) : 300);
}
