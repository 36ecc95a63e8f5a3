#include "tandem/cli/compare_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "tandem/cli/machine.h"
#include "tandem/model/parameters.h"
#include "tandem/report/format.h"
#include "tandem/report/html.h"
#include "tandem/trace/expert_load.h"

namespace tandem::cli {
namespace {

ExpertCounts counts_of(const PlanResult& result, const ModelConfig& model) {
  ExpertCounts counts(static_cast<int>(model.layers), static_cast<int>(model.experts));
  for (int layer = 0; layer < counts.layers(); ++layer)
    for (int expert = 0; expert < counts.experts(); ++expert)
      counts.add(layer, expert, result.expert_tokens[layer * model.experts + expert]);
  return counts;
}

int64_t largest_rank_bytes(const PlanResult& result) {
  int64_t most = 0;
  for (size_t rank = 0; rank < result.roles.size(); ++rank)
    most = std::max(most, result.bytes.total(rank));
  return most;
}

std::string error_text(double error) { return error == 0 ? "0" : fmt::format("{:.1e}", error); }

// ---- training
// ------------------------------------------------------------------------------------

struct History {
  LineSeries training{"training", {}}, held_out{"held-out", {}};
  std::string plan;
  double perplexity = std::numeric_limits<double>::quiet_NaN();  // the last one
  double tokens_per_second = 0;                                  // mean over the steps
};

// The mean of some steps at a time: about 200 points, which is what a chart can show.
void add_smoothed(const nlohmann::json& steps, History& history) {
  const size_t every = std::max<size_t>(1, steps.size() / 200);
  for (size_t first = 0; first < steps.size(); first += every) {
    const size_t end = std::min(steps.size(), first + every);
    double loss = 0;
    for (size_t i = first; i < end; ++i) loss += steps[i].at("loss").get<double>();
    history.training.points.emplace_back(steps[end - 1].at("step").get<double>(),
                                         loss / static_cast<double>(end - first));
  }
  for (const auto& step : steps)
    history.tokens_per_second +=
        step.at("tokens_per_second").get<double>() / static_cast<double>(steps.size());
}

History read_history(const std::string& file) {
  std::ifstream stream(file);
  if (!stream) throw InputError("--history {}: cannot be read", file);
  History history;
  try {
    const auto json = nlohmann::json::parse(stream);
    add_smoothed(json.at("steps"), history);
    for (const auto& point : json.at("validation")) {
      history.held_out.points.emplace_back(point.at("step").get<double>(),
                                           point.at("loss").get<double>());
      history.perplexity = point.at("perplexity").get<double>();
    }
    history.plan = json.value("plan", "");
  } catch (const nlohmann::json::exception& error) {
    throw InputError("--history {}: not what `tandem train --json` writes ({})", file,
                     error.what());
  }
  return history;
}

void add_training(HtmlReport& html, const std::string& file) {
  const History history = read_history(file);
  html.heading("Training");
  if (!history.plan.empty())
    html.paragraph(fmt::format(
        "Trained under the plan {}. Loss in nats a token; a tenth of the text was held out.",
        history.plan));
  std::vector<std::pair<std::string, std::string>> figures;
  if (!history.training.points.empty())
    figures.emplace_back("training loss at the end",
                         format_number(history.training.points.back().second));
  if (!history.held_out.points.empty()) {
    figures.emplace_back("held-out loss", format_number(history.held_out.points.back().second));
    figures.emplace_back("held-out perplexity", format_number(history.perplexity));
  }
  figures.emplace_back("training tokens/s", format_si(history.tokens_per_second, ""));
  html.figures(figures);
  html.line_chart({.title = "Loss",
                   .x_label = "step",
                   .y_label = "loss (nats a token)",
                   .series = {history.training, history.held_out}});
}

// ---- strategies
// ----------------------------------------------------------------------------------

template <class Value>
BarSeries bars(std::string name, std::span<const PlanResult> results, const Value& value) {
  BarSeries series{std::move(name), {}};
  for (const PlanResult& result : results) series.values.push_back(value(result));
  return series;
}

void add_bars(HtmlReport& html, std::span<const PlanResult> results) {
  std::vector<std::string> names;
  for (const PlanResult& result : results) names.push_back(result.name);
  html.bar_chart(
      {.title = "Decode speed",
       .y_label = "tokens/s, all sequences together",
       .groups = names,
       .series = {bars("decode", results, [](const auto& r) { return r.tokens_per_second(); })}});
  html.bar_chart({.title = "Time per output token",
                  .y_label = "ms",
                  .groups = names,
                  .series = {bars("time per output token", results,
                                  [](const auto& r) { return 1e3 * r.tpot_seconds(); })}});
  html.bar_chart({.title = "Prefill speed",
                  .y_label = "tokens/s",
                  .groups = names,
                  .series = {bars("prefill", results,
                                  [](const auto& r) { return r.prefill_tokens_per_second(); })}});
  html.bar_chart(
      {.title = "Where the time of ranks goes while decoding",
       .y_label = "% of rank time",
       .groups = names,
       .series = {bars("attention ranks compute", results,
                       [](const auto& r) { return 100 * r.decode.attention.utilisation; }),
                  bars("expert ranks compute", results,
                       [](const auto& r) { return 100 * r.decode.expert.utilisation; }),
                  bars("communication", results,
                       [](const auto& r) { return 100 * r.decode.communication_share; }),
                  bars("ranks wait", results,
                       [](const auto& r) { return 100 * r.decode.waiting.mean; })}});
}

void add_timelines(HtmlReport& html, std::span<const PlanResult> results) {
  html.heading("What the ranks did");
  html.paragraph("A few decode steps from the middle of each run.");
  for (const PlanResult& result : results)
    if (result.step_window.seconds() > 0)
      html.timeline(result.name, result.step_spans, result.step_window);
}

void add_expert_load(HtmlReport& html, const PlanResult& result, const ModelConfig& model) {
  HeatMap map{.title = "Tokens routed to each expert",
              .row_label = "layer",
              .column_label = "expert",
              .values = {result.expert_tokens.begin(), result.expert_tokens.end()}};
  for (int64_t layer = 0; layer < model.layers; ++layer) map.rows.push_back(std::to_string(layer));
  for (int64_t e = 0; e < model.experts; ++e) map.columns.push_back(std::to_string(e));
  html.heading("Expert load");
  html.paragraph(fmt::format(
      "Prefill and decode together. The busiest expert of a layer has {} times the mean, averaged "
      "over layers.",
      format_number(expert_load_max_over_mean(result, model))));
  html.heat_map(map);
}

std::string model_text(const CompareReport& report, const ModelConfig& m, DType dtype) {
  return fmt::format(
      "{}: {} parameters in {}, {} layers of hidden size {}, {} heads over {} K/V heads, {} "
      "experts "
      "of which {} serve a token.",
      report.model, format_count(parameter_count(m)), dtype_name(dtype), m.layers, m.hidden_size,
      m.heads, m.kv_heads, m.experts, m.top_k);
}

// The table of the terminal is too wide for a page: speed here, what it costs beneath.
Table speed_table(std::span<const PlanResult> results) {
  Table table({{"plan", Align::left},
               {"ranks"},
               {"tokens/s"},
               {"time/token"},
               {"prefill tokens/s"},
               {"against the first"}});
  for (const PlanResult& r : results)
    table.add_row(
        {r.name, std::to_string(r.ranks()), format_number(r.tokens_per_second()),
         format_seconds(r.tpot_seconds()), format_number(r.prefill_tokens_per_second()),
         fmt::format("{:.2f} x", r.tokens_per_second() / results.front().tokens_per_second())});
  return table;
}

Table use_table(std::span<const PlanResult> results) {
  Table table({{"plan", Align::left},
               {"attention busy"},
               {"experts busy"},
               {"communication"},
               {"waiting"},
               {"largest rank"}});
  for (const PlanResult& r : results)
    table.add_row({r.name, format_share(r.decode.attention.utilisation),
                   format_share(r.decode.expert.utilisation),
                   format_share(r.decode.communication_share), format_share(r.decode.waiting.mean),
                   format_bytes(static_cast<double>(largest_rank_bytes(r)))});
  return table;
}

Table exactness_table(std::span<const PlanResult> results) {
  Table table({{"plan", Align::left}, {"same tokens"}, {"logits differ by"}});
  for (const PlanResult& r : results)
    table.add_row(
        {r.name, r.same_tokens ? "yes" : "no",
         r.max_relative_error == 0 ? "nothing: the same bits" : error_text(r.max_relative_error)});
  return table;
}

}  // namespace

void check_history(const std::string& file) { read_history(file); }

double expert_load_max_over_mean(const PlanResult& result, const ModelConfig& model) {
  double sum = 0;
  for (const ExpertLoad& load : expert_load_by_layer(counts_of(result, model)))
    sum += load.max_over_mean / static_cast<double>(model.expert_layers());
  return sum;
}

Table comparison_table(std::span<const PlanResult> results) {
  Table table({{"plan", Align::left},
               {"ranks"},
               {"tokens/s"},
               {"time/token"},
               {"prefill tokens/s"},
               {"attention busy"},
               {"experts busy"},
               {"communication"},
               {"waiting"},
               {"largest rank"},
               {"same tokens"},
               {"logits differ by"}});
  for (const PlanResult& r : results)
    table.add_row({r.name, std::to_string(r.ranks()), format_number(r.tokens_per_second()),
                   format_seconds(r.tpot_seconds()), format_number(r.prefill_tokens_per_second()),
                   format_share(r.decode.attention.utilisation),
                   format_share(r.decode.expert.utilisation),
                   format_share(r.decode.communication_share), format_share(r.decode.waiting.mean),
                   format_bytes(static_cast<double>(largest_rank_bytes(r))),
                   r.same_tokens ? "yes" : "no", error_text(r.max_relative_error)});
  return table;
}

void write_report(const CompareReport& report, const ModelConfig& model, DType dtype,
                  std::span<const PlanResult> results) {
  HtmlReport html("Tandem: strategies compared", machine_name());
  html.paragraph(model_text(report, model, dtype));
  if (!report.history.empty()) add_training(html, report.history);
  html.heading("Strategies");
  html.paragraph(report.work);
  html.table("Speed", speed_table(results));
  html.table("Where the time goes while decoding, and memory", use_table(results));
  html.paragraph(
      "Busy: share of the decode time in which ranks of the group compute. Communication: share in "
      "which a message is under way or waited for. One that travels while its receiver computes "
      "costs nothing, so communication may be large where waiting is small.");
  html.table("Exactness", exactness_table(results));
  html.paragraph(
      "Tokens and logits held against the plan single: the largest difference, relative to the "
      "largest logit.");
  add_bars(html, results);
  add_timelines(html, results);
  add_expert_load(html, results.front(), model);
  html.write(report.file);
}

}  // namespace tandem::cli
