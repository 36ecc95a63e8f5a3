// A report as one self-contained HTML file: text, tables and charts, nothing fetched when it is
// viewed. Parts appear in the order in which they are added. Not synchronised.
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tandem/report/table.h"
#include "tandem/trace/metrics.h"

namespace tandem {

struct LineSeries {
  std::string name;
  std::vector<std::pair<double, double>> points;  // (x, y), x ascending; NaN y leaves a gap
};

struct LineChart {
  std::string title;
  std::string x_label;  // with its unit: "sequence length (tokens)"
  std::string y_label;
  std::vector<LineSeries> series;
  bool x_logarithmic = false;
  bool y_logarithmic = false;
  bool y_from_zero = false;
};

struct BarSeries {
  std::string name;
  std::vector<double> values;  // one a group; NaN leaves the bar out
};

struct BarChart {
  std::string title;
  std::string y_label;
  std::vector<std::string> groups;
  std::vector<BarSeries> series;
  bool stacked = false;
};

struct HeatMap {
  std::string title;
  std::string row_label;  // "layer"
  std::string column_label;
  std::vector<std::string> rows;
  std::vector<std::string> columns;
  std::vector<double> values;  // [rows, columns]
  // Of ratios: where neither side wins. Colours then part there, a factor above being as strong as
  // the same factor below, and a line runs between cells on either side.
  std::optional<double> even = std::nullopt;
};

class HtmlReport {
 public:
  explicit HtmlReport(std::string title, std::string subtitle = "");

  void heading(std::string_view text);
  void paragraph(std::string_view text);
  // Key figures as tiles: (label, value), values formatted by the caller.
  void figures(const std::vector<std::pair<std::string, std::string>>& figures);
  void table(std::string_view caption, const Table& table);
  void line_chart(const LineChart& chart);
  void bar_chart(const BarChart& chart);
  void heat_map(const HeatMap& map);
  // What every rank did over `window`, lane by lane; the height of a colour
  // is the share of the time.
  void timeline(std::string_view title, std::span<const RankSpans> ranks, const TimeWindow& window);

  std::string html() const;
  // Writes beside `file` and renames, so that a reader never sees half a report. WorldError.
  void write(const std::filesystem::path& file) const;

 private:
  void add_chart(std::string_view title, std::string_view description, std::string_view data,
                 const Table& figures);

  std::string title_;
  std::string subtitle_;
  std::string body_;
  bool charts_ = false;  // whether the chart library has to be in the file
};

}  // namespace tandem
