#include "tandem/cli/bench_figures.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "tandem/base/clock.h"
#include "tandem/report/format.h"

namespace tandem::cli {
namespace {

constexpr int64_t probe_bytes = int64_t{5} << 28;  // 1.25 GiB: larger than a large L3
constexpr double peak_seconds = 0.06;

std::string rate_text(double value, std::string_view unit) {
  return value > 0 ? format_si(value, unit) : "";
}
std::string share_text(double share) { return share > 0 ? format_share(share) : ""; }

}  // namespace

Ceilings mean(const Ceilings& a, const Ceilings& b) {
  return {(a.flops_per_second + b.flops_per_second) / 2,
          (a.bytes_per_second + b.bytes_per_second) / 2};
}

double roofline_seconds(const Cost& cost, const Ceilings& ceilings) {
  double seconds = 0;
  if (ceilings.flops_per_second > 0) seconds = cost.flops / ceilings.flops_per_second;
  if (ceilings.bytes_per_second > 0)
    seconds = std::max(seconds, cost.bytes / ceilings.bytes_per_second);
  return seconds;
}

Bench::Bench(const BenchSettings& settings) : settings_(settings), memory_(probe_bytes) {}

Ceilings Bench::ceilings(DType dtype, int threads) const {
  return {cpu::peak_flops_per_second(dtype, threads, peak_seconds),
          memory_.bytes_per_second(threads)};
}

Figure& Bench::measure(Figure figure, DType dtype, const std::function<void()>& body) {
  body();  // the first run allocates
  const Ceilings before = ceilings(dtype, settings_.threads);
  std::vector<double> seconds;
  const double start = wall_seconds();
  constexpr size_t fewest = 3;
  while (seconds.size() < fewest || wall_seconds() - start < settings_.figure_seconds()) {
    const double begin = wall_seconds();
    body();
    seconds.push_back(wall_seconds() - begin);
  }
  figure.seconds = median(std::move(seconds));
  figure.ceilings = mean(before, ceilings(dtype, settings_.threads));
  figure.bound_seconds = roofline_seconds(figure.cost, figure.ceilings);
  return add(std::move(figure));
}

Figure& Bench::add(Figure figure) {
  fmt::print(stderr, "{}: {}: {}\n", figure.section, figure.name, format_seconds(figure.seconds));
  return figures_.emplace_back(std::move(figure));
}

Table figures_table(const std::vector<Figure>& figures, const std::string& section) {
  Table table({{section, Align::left},
               {"time"},
               {"tokens/s"},
               {"speed"},
               {"peak"},
               {"of it"},
               {"bytes"},
               {"memory"},
               {"of it"},
               {"of its bound"},
               {"by operation"},
               {"idle"},
               {"bound set by", Align::left}});
  for (const Figure& f : figures) {
    if (f.section != section) continue;
    table.add_row(
        {f.name, format_seconds(f.seconds), f.tokens > 0 ? format_number(f.tokens / f.seconds) : "",
         rate_text(f.cost.flops / f.seconds, "FLOP/s"),
         rate_text(f.ceilings.flops_per_second, "FLOP/s"), share_text(f.flops_share()),
         rate_text(f.cost.bytes / f.seconds, "B/s"), rate_text(f.ceilings.bytes_per_second, "B/s"),
         share_text(f.bytes_share()), share_text(f.bound_share()), share_text(f.operations_share()),
         share_text(f.outside_share), f.bound});
  }
  return table;
}

nlohmann::json figures_json(const std::vector<Figure>& figures) {
  auto list = nlohmann::json::array();
  for (const Figure& f : figures)
    list.push_back({{"section", f.section},
                    {"name", f.name},
                    {"seconds", f.seconds},
                    {"tokens_per_second", f.tokens > 0 ? f.tokens / f.seconds : 0},
                    {"flops", f.cost.flops},
                    {"bytes", f.cost.bytes},
                    {"ceiling_flops_per_second", f.ceilings.flops_per_second},
                    {"ceiling_bytes_per_second", f.ceilings.bytes_per_second},
                    {"flops_share", f.flops_share()},
                    {"bytes_share", f.bytes_share()},
                    {"bound_seconds", f.bound_seconds},
                    {"bound_share", f.bound_share()},
                    {"bound", f.bound},
                    {"operations_seconds", f.operations_seconds},
                    {"operations_share", f.operations_share()},
                    {"outside_share", f.outside_share}});
  return list;
}

}  // namespace tandem::cli
