// Heat maps as inline SVG: one path a shade, labels in the page's own text.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "tandem/base/error.h"
#include "tandem/report/format.h"
#include "tandem/report/html.h"
#include "tandem/report/html_text.h"

namespace tandem {
namespace {

constexpr size_t shades = 9;
constexpr size_t most_table_cells = 4096;

// From values to shades: amounts from 0 on, or, with `even`, factors either way of it.
struct Scale {
  double low = 0, high = 0;
  std::optional<double> even;

  const char* colours() const { return even ? "diverge" : "heat"; }
  size_t shade(double value) const {
    if (high <= low) return even ? shades / 2 : 0;
    const double share =
        even ? std::log(value / low) / std::log(high / low) : (value - low) / (high - low);
    return std::min(shades - 1, static_cast<size_t>(share * static_cast<double>(shades)));
  }
};

Scale scale_of(const HeatMap& map) {
  Scale scale{.even = map.even};
  double factor = 1;
  for (const double value : map.values) {
    if (!std::isfinite(value)) continue;
    scale.low = std::min(scale.low, value);
    scale.high = std::max(scale.high, value);
    if (map.even) factor = std::max({factor, value / *map.even, *map.even / value});
  }
  if (map.even) scale.low = *map.even / factor, scale.high = *map.even * factor;
  return scale;
}

std::string cells(const HeatMap& map, const Scale& scale) {
  std::array<std::string, shades> paths;
  for (size_t r = 0; r < map.rows.size(); ++r) {
    for (size_t c = 0; c < map.columns.size(); ++c) {
      const double value = map.values[r * map.columns.size() + c];
      if (std::isfinite(value)) paths[scale.shade(value)] += fmt::format("M{} {}h1v1h-1z", c, r);
    }
  }
  std::string svg;
  for (size_t s = 0; s < shades; ++s)
    if (!paths[s].empty())
      svg += fmt::format("<path class=\"{}-{}\" d=\"{}\"/>", scale.colours(), s, paths[s]);
  return svg;
}

// Borders between neighbours of which one is above `even` and the other is not.
std::string border(const HeatMap& map) {
  if (!map.even) return "";
  const size_t width = map.columns.size();
  const auto parted = [&](size_t a, size_t b) {
    return std::isfinite(map.values[a]) && std::isfinite(map.values[b]) &&
           (map.values[a] > *map.even) != (map.values[b] > *map.even);
  };
  std::string path;
  for (size_t r = 0; r < map.rows.size(); ++r)
    for (size_t c = 0; c < width; ++c) {
      const size_t at = r * width + c;
      if (c + 1 < width && parted(at, at + 1)) path += fmt::format("M{} {}v1", c + 1, r);
      if (r + 1 < map.rows.size() && parted(at, at + width))
        path += fmt::format("M{} {}h1", c, r + 1);
    }
  return path.empty() ? "" : fmt::format("<path class=\"even\" d=\"{}\"/>", path);
}

// As many labels as there is room for; each stands for the rows or columns up to the next one.
std::string labels(const std::vector<std::string>& names, size_t most) {
  std::string html;
  const size_t every = (names.size() + most - 1) / most;
  for (size_t i = 0; i < names.size(); i += every)
    html += fmt::format("<span style=\"flex:{} 1 0\">{}</span>", std::min(every, names.size() - i),
                        escape_html(names[i]));
  return html;
}

// Every cell, or what each row comes to where there are too many.
Table heat_table(const HeatMap& map) {
  const size_t width = map.columns.size();
  const bool whole = map.values.size() <= most_table_cells;
  std::vector<Column> columns{{map.row_label, Align::left}};
  if (whole) {
    for (const std::string& name : map.columns) columns.push_back({map.column_label + " " + name});
  } else {
    columns.insert(columns.end(), {{"least"}, {"mean"}, {"most"}});
  }
  Table table(std::move(columns));
  for (size_t r = 0; r < map.rows.size(); ++r) {
    const auto row = std::span(map.values).subspan(r * width, width);
    std::vector<std::string> line{map.rows[r]};
    if (whole) {
      for (double value : row) line.push_back(std::isfinite(value) ? format_number(value) : "");
    } else {
      double sum = 0;
      for (double value : row) sum += value;
      line.push_back(format_number(std::ranges::min(row)));
      line.push_back(format_number(sum / static_cast<double>(width)));
      line.push_back(format_number(std::ranges::max(row)));
    }
    table.add_row(std::move(line));
  }
  return table;
}

std::string scale_bar(const Scale& scale) {
  std::string html = fmt::format(
      "<div class=\"scale\"><span>{}</span><svg viewBox=\"0 0 {} 1\" preserveAspectRatio=\"none\" "
      "aria-hidden=\"true\">",
      format_number(scale.low), shades);
  for (size_t s = 0; s < shades; ++s)
    html += fmt::format("<path class=\"{1}-{0}\" d=\"M{0} 0h1v1h-1z\"/>", s, scale.colours());
  return html +
         fmt::format("</svg><span>{}</span><output></output></div>\n", format_number(scale.high));
}

}  // namespace

void HtmlReport::heat_map(const HeatMap& map) {
  TANDEM_CHECK(map.values.size() == map.rows.size() * map.columns.size(),
               "{}: {} values for {} x {} cells", map.title, map.values.size(), map.rows.size(),
               map.columns.size());
  const Scale scale = scale_of(map);
  auto values = nlohmann::json::array();
  for (double value : map.values)
    values.push_back(std::isfinite(value) ? nlohmann::json(value) : nlohmann::json());
  const size_t height = std::clamp<size_t>(map.rows.size() * 18, 54, 480);
  const size_t row_labels = std::max<size_t>(1, height / 16);
  const std::string description = fmt::format(
      "{}: heat map of {} {}s by {} {}s, from {} to {}", map.title, map.rows.size(), map.row_label,
      map.columns.size(), map.column_label, format_number(scale.low), format_number(scale.high));
  body_ += fmt::format(
      "<figure class=\"heat-map\"><figcaption>{}</figcaption>\n<div class=\"heat\">"
      "<div class=\"rows\">{}</div><div style=\"height:{}px\"><svg viewBox=\"0 0 {} {}\" "
      "preserveAspectRatio=\"none\" shape-rendering=\"crispEdges\" role=\"img\" "
      "aria-label=\"{}\">{}</svg></div>"
      "<div class=\"columns\">{}</div><div class=\"axis-name\">{} (across) and {} "
      "(down)</div></div>\n",
      escape_html(map.title), labels(map.rows, row_labels), height, map.columns.size(),
      map.rows.size(), escape_html(description), cells(map, scale) + border(map),
      labels(map.columns, 16), escape_html(map.column_label), escape_html(map.row_label));
  body_ += scale_bar(scale) + html_figures(heat_table(map));
  body_ += html_json({{"row_label", map.row_label},
                      {"column_label", map.column_label},
                      {"rows", map.rows},
                      {"columns", map.columns},
                      {"values", std::move(values)}});
  body_ += "</figure>\n";
}

}  // namespace tandem
