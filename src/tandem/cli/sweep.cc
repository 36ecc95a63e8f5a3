#include <fmt/format.h>
#include <unistd.h>

#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "tandem/cli/commands.h"
#include "tandem/cli/model_options.h"
#include "tandem/cli/work_options.h"
#include "tandem/planner/search.h"
#include "tandem/planner/sensitivity.h"
#include "tandem/report/format.h"
#include "tandem/report/html.h"

namespace tandem::cli {
namespace {

struct SweepOptions {
  WorkOptions work;
  std::string x, y, html;
  int simulated = 48;
};

// "context=256..32768": powers of two from the first value on.
struct Axis {
  std::string name;
  std::vector<double> values;
};

// Short names of resources.
const std::map<std::string, std::string>& axis_resources() {
  static const std::map<std::string, std::string> known = {{"nic", "links between nodes"},
                                                           {"inside", "links inside nodes"},
                                                           {"compute", "compute"},
                                                           {"memory", "memory"}};
  return known;
}

Axis parse_axis(const char* option, const std::string& text) {
  const auto refuse = [&] {
    throw InputError(
        "{} {}: expected NAME=FIRST..LAST, NAME one of context, batch, nic, inside, "
        "compute, memory",
        option, text);
  };
  const size_t equals = text.find('='), dots = text.find("..");
  if (equals == std::string::npos || dots == std::string::npos || dots < equals) refuse();
  Axis axis{.name = text.substr(0, equals)};
  const auto number = [&](size_t begin, size_t end) {
    double value = 0;
    const auto [at, error] = std::from_chars(text.data() + begin, text.data() + end, value);
    if (error != std::errc() || at != text.data() + end || !(value > 0)) refuse();
    return value;
  };
  const double first = number(equals + 1, dots), last = number(dots + 2, text.size());
  for (double value = first; value <= last * (1 + 1e-9); value *= 2) axis.values.push_back(value);
  if (axis.values.empty() ||
      !(axis.name == "context" || axis.name == "batch" || axis_resources().contains(axis.name)))
    refuse();
  return axis;
}

// Context and batch are set, resources made so many times as fast.
void apply(const std::string& name, double value, WorkOptions::Read& to) {
  if (name == "context")
    to.work.context_tokens = std::llround(value);
  else if (name == "batch")
    to.work.sequences = std::llround(value);
  else
    to.cluster = scaled(to.cluster, {axis_resources().at(name)}, value);
}

struct Point {
  double x = 0, y = 0;
  std::string separated, colocated;  // the best plans; empty where none fits
  double separated_seconds = 0, colocated_seconds = 0;

  // Above 1: separation wins.
  double advantage() const {
    return separated.empty() || colocated.empty() ? std::nan("")
                                                  : colocated_seconds / separated_seconds;
  }
};

Point point_of(WorkOptions::Read at, const SearchSettings& settings) {
  // Contexts beyond what the model was made for are asked about all the same.
  at.model.max_positions = std::max(at.model.max_positions, at.work.longest_context() + 8);
  Point point;
  try {
    for (const Candidate& c : search(at.model, at.cluster, at.work, settings).ranked) {
      if (!c.simulated) continue;
      const bool separates = c.kind == "ma";
      std::string& plan = separates ? point.separated : point.colocated;
      if (!plan.empty()) continue;
      plan = c.plan;
      (separates ? point.separated_seconds : point.colocated_seconds) = c.seconds();
    }
  } catch (const InputError&) {
    // No plan fits: an empty field of the map.
  }
  return point;
}

std::string axis_value(const std::string& name, double value) {
  return name == "context" || name == "batch" ? fmt::format("{:.0f}", value)
                                              : fmt::format("{:g}x", value);
}

void write_html(const SweepOptions& o, const Workload& work, const Axis& x, const Axis& y,
                const std::vector<Point>& points) {
  HtmlReport html("Where separation wins and loses",
                  fmt::format("{} on {}; {} unless an axis says otherwise", o.work.model,
                              o.work.cluster, work_text(work)));
  html.paragraph(
      "How many times as fast the best separated plan is as the best plan that has attention and "
      "experts on the same devices. Above 1 separation wins. Each plan has its own best "
      "micro-batches, heads, shards and copies; the best candidates were simulated. Blue fields "
      "are "
      "those where separation wins, orange ones where it loses; the line runs between them.");
  HeatMap map{.title = "Best separated against best colocated",
              .row_label = y.name,
              .column_label = x.name,
              .even = 1};
  for (const double value : x.values) map.columns.push_back(axis_value(x.name, value));
  for (const double value : y.values) map.rows.push_back(axis_value(y.name, value));
  for (const Point& p : points) map.values.push_back(p.advantage());
  html.heat_map(map);
  Table table({{x.name},
               {y.name},
               {"times as fast"},
               {"separated", Align::left},
               {"takes"},
               {"colocated", Align::left},
               {"takes"}});
  for (const Point& p : points)
    table.add_row({axis_value(x.name, p.x), axis_value(y.name, p.y),
                   fmt::format("{:.2f}", p.advantage()), p.separated,
                   format_seconds(p.separated_seconds), p.colocated,
                   format_seconds(p.colocated_seconds)});
  html.table("The plans behind it", table);
  html.write(o.html);
}

void run(const SweepOptions& o) {
  const WorkOptions::Read read = o.work.read();
  const Axis x = parse_axis("--x", o.x), y = parse_axis("--y", o.y);
  if (x.name == y.name) throw InputError("--x and --y are both {}", x.name);
  const SearchSettings settings{.dtype = read.dtype, .simulated = o.simulated, .seed = o.work.seed};
  const bool terminal = isatty(STDERR_FILENO) != 0;
  std::vector<Column> columns{{y.name + " \\ " + x.name}};
  for (const double value : x.values) columns.push_back({axis_value(x.name, value)});
  Table table(columns);
  std::vector<Point> points;
  nlohmann::json json{{"x", x.name}, {"y", y.name}, {"points", nlohmann::json::array()}};
  for (const double at_y : y.values) {
    std::vector<std::string> row{axis_value(y.name, at_y)};
    for (const double at_x : x.values) {
      WorkOptions::Read at = read;
      apply(x.name, at_x, at);
      apply(y.name, at_y, at);
      Point& point = points.emplace_back(point_of(at, settings));
      point.x = at_x, point.y = at_y;
      row.push_back(std::isnan(point.advantage()) ? "-" : fmt::format("{:.2f}", point.advantage()));
      json["points"].push_back({{x.name, at_x},
                                {y.name, at_y},
                                {"separated_plan", point.separated},
                                {"separated_seconds", point.separated_seconds},
                                {"colocated_plan", point.colocated},
                                {"colocated_seconds", point.colocated_seconds}});
      if (terminal) fmt::print(stderr, "\r{}/{}", points.size(), x.values.size() * y.values.size());
    }
    table.add_row(std::move(row));
  }
  if (terminal) fmt::print(stderr, "\r");
  fmt::print("times as fast: best separated plan against best colocated one (above 1 it wins)\n{}",
             table.text());
  write_json(o.work.json_file, json);
  if (!o.html.empty()) write_html(o, read.work, x, y, points);
}

}  // namespace

void add_sweep(CLI::App& app) {
  CLI::App* command = app.add_subcommand("sweep", "Map where separation wins and where it loses");
  const auto o = std::make_shared<SweepOptions>();
  o->work.add(*command);
  command
      ->add_option("--x", o->x,
                   "context=256..32768: powers of two; also batch, and factors of nic, inside "
                   "(links), compute, memory (devices)")
      ->required();
  command->add_option("--y", o->y, "batch=16..4096: the other axis, likewise")->required();
  command->add_option("--simulate", o->simulated, "Candidates a point that the simulator settles")
      ->capture_default_str();
  command->add_option("--html", o->html, "Write the map as a page here");
  command->callback([o] { run(*o); });
}

}  // namespace tandem::cli
