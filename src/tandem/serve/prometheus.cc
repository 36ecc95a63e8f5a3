#include "tandem/serve/prometheus.h"

#include <fmt/format.h>

#include <string_view>

namespace tandem {
namespace {

void head(std::string& text, std::string_view name, std::string_view type, std::string_view help) {
  text += fmt::format("# HELP {0} {1}\n# TYPE {0} {2}\n", name, help, type);
}

void counter(std::string& text, std::string_view name, std::string_view help, double value) {
  head(text, name, "counter", help);
  text += fmt::format("{} {}\n", name, value);
}

void gauge(std::string& text, std::string_view name, std::string_view help, int64_t value) {
  head(text, name, "gauge", help);
  text += fmt::format("{} {}\n", name, value);
}

void histogram(std::string& text, std::string_view name, std::string_view help,
               const Histogram& values) {
  head(text, name, "histogram", help);
  int64_t sum = 0;
  for (size_t i = 0; i < Histogram::bounds_seconds.size(); ++i) {
    sum += values.counts[i];
    text += fmt::format("{}_bucket{{le=\"{}\"}} {}\n", name, Histogram::bounds_seconds[i], sum);
  }
  text += fmt::format("{0}_bucket{{le=\"+Inf\"}} {1}\n{0}_sum {2}\n{0}_count {1}\n", name,
                      values.count(), values.sum_seconds);
}

}  // namespace

std::string prometheus_text(const Statistics& statistics, bool healthy) {
  const Statistics::Counts counts = statistics.counts();
  const Statistics::Load load = statistics.load();
  std::string text;
  gauge(text, "tandem_up", "1 while the engine can answer", healthy);
  head(text, "tandem_requests_total", "counter", "Requests by endpoint and HTTP status");
  for (const auto& [key, count] : counts.requests)
    text += fmt::format("tandem_requests_total{{endpoint=\"{}\",status=\"{}\"}} {}\n", key.first,
                        key.second, count);
  const auto number = [](int64_t value) { return static_cast<double>(value); };
  counter(text, "tandem_prompt_tokens_total", "Tokens of prompts that got a first token",
          number(counts.prompt_tokens));
  counter(text, "tandem_generated_tokens_total", "Tokens drawn", number(counts.generated_tokens));
  counter(text, "tandem_preemptions_total", "Sequences that gave up their K/V for a time",
          number(counts.preemptions));
  counter(text, "tandem_steps_total", "Steps of the engine", number(counts.steps));
  counter(text, "tandem_step_seconds_total", "Seconds in steps", counts.step_seconds);
  counter(text, "tandem_recoveries_total", "Times a rank was lost and the engine went on",
          number(load.recoveries));
  gauge(text, "tandem_waiting_sequences", "Sequences in the queue", load.waiting);
  gauge(text, "tandem_running_sequences", "Sequences that have a slot", load.running);
  gauge(text, "tandem_kv_used_tokens", "Room of K/V blocks in use", load.kv_used_tokens);
  gauge(text, "tandem_kv_tokens", "Room of all K/V blocks", load.kv_tokens);
  histogram(text, "tandem_time_to_first_token_seconds", "From arrival to the first token",
            counts.ttft);
  histogram(text, "tandem_time_per_output_token_seconds",
            "Mean over a sequence's tokens after the first", counts.tpot);
  return text;
}

}  // namespace tandem
