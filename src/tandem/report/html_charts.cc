// Line and bar charts: JSON that page.js hands to the chart library, and the same figures as a
// table.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "tandem/base/error.h"
#include "tandem/report/format.h"
#include "tandem/report/html.h"
#include "tandem/report/html_text.h"

namespace tandem {
namespace {

constexpr size_t most_table_rows = 200;

// NaN and infinity have no place in JSON; the chart library leaves null out.
nlohmann::json number(double value) {
  return std::isfinite(value) ? nlohmann::json(value) : nlohmann::json();
}

std::string cell(double value) { return std::isfinite(value) ? format_number(value) : ""; }

Table line_table(const LineChart& chart) {
  std::vector<Column> columns{{chart.x_label}};
  std::map<double, std::vector<std::string>> rows;  // by x
  for (size_t s = 0; s < chart.series.size(); ++s) {
    columns.push_back({chart.series[s].name});
    for (const auto& [x, y] : chart.series[s].points) {
      auto& row = rows[x];
      row.resize(chart.series.size());
      row[s] = cell(y);
    }
  }
  Table table(std::move(columns));
  const size_t every = (rows.size() + most_table_rows - 1) / most_table_rows;
  size_t index = 0;
  for (auto& [x, cells] : rows) {
    // The last one always: it is what a training run is asked for.
    if (index++ % every != 0 && index != rows.size()) continue;
    cells.insert(cells.begin(), format_number(x));
    table.add_row(std::move(cells));
  }
  return table;
}

Table bar_table(const BarChart& chart) {
  std::vector<Column> columns{{"", Align::left}};
  for (const BarSeries& series : chart.series) columns.push_back({series.name});
  Table table(std::move(columns));
  for (size_t g = 0; g < chart.groups.size(); ++g) {
    std::vector<std::string> row{chart.groups[g]};
    for (const BarSeries& series : chart.series) row.push_back(cell(series.values[g]));
    table.add_row(std::move(row));
  }
  return table;
}

template <class Series>
std::string names_of(const std::vector<Series>& series) {
  std::vector<std::string_view> names;
  for (const Series& one : series) names.push_back(one.name);
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace

void HtmlReport::line_chart(const LineChart& chart) {
  nlohmann::json data{{"type", "line"},
                      {"x_label", chart.x_label},
                      {"y_label", chart.y_label},
                      {"x_logarithmic", chart.x_logarithmic},
                      {"y_logarithmic", chart.y_logarithmic},
                      {"y_from_zero", chart.y_from_zero},
                      {"series", nlohmann::json::array()}};
  for (const LineSeries& series : chart.series) {
    auto points = nlohmann::json::array();
    for (const auto& [x, y] : series.points) points.push_back({number(x), number(y)});
    data["series"].push_back({{"name", series.name}, {"points", std::move(points)}});
  }
  add_chart(chart.title,
            fmt::format("line chart of {} over {} for {}", chart.y_label, chart.x_label,
                        names_of(chart.series)),
            html_json(data), line_table(chart));
}

void HtmlReport::bar_chart(const BarChart& chart) {
  nlohmann::json data{{"type", "bar"},
                      {"y_label", chart.y_label},
                      {"stacked", chart.stacked},
                      {"groups", chart.groups},
                      {"series", nlohmann::json::array()}};
  for (const BarSeries& series : chart.series) {
    TANDEM_CHECK(series.values.size() == chart.groups.size(), "{}: {} values for {} groups",
                 series.name, series.values.size(), chart.groups.size());
    auto values = nlohmann::json::array();
    for (double value : series.values) values.push_back(number(value));
    data["series"].push_back({{"name", series.name}, {"values", std::move(values)}});
  }
  add_chart(chart.title,
            fmt::format("bar chart of {} for {}", chart.y_label, names_of(chart.series)),
            html_json(data), bar_table(chart));
}

void HtmlReport::add_chart(std::string_view title, std::string_view description,
                           std::string_view data, const Table& figures) {
  charts_ = true;
  body_ += fmt::format(
      "<figure class=\"chart\"><figcaption>{0}</figcaption>\n<div class=\"canvas\">"
      "<canvas role=\"img\" aria-label=\"{0}: {1}. The figures are in the table below.\"></canvas>"
      "</div>\n{2}{3}</figure>\n",
      escape_html(title), escape_html(description), html_figures(figures), data);
}

}  // namespace tandem
