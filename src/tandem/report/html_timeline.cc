// The timeline of ranks: for each rank a bar in which the height of a colour is the share of that
// moment spent in its lane, with a strip for messages beneath. Inline SVG; its size depends on the
// number of ranks, not of spans.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "tandem/report/format.h"
#include "tandem/report/html.h"
#include "tandem/report/html_text.h"
#include "tandem/trace/coverage.h"

namespace tandem {
namespace {

constexpr std::array lanes{Lane::attention, Lane::expert, Lane::wait, Lane::message};
constexpr int bar_height = 20;   // of the lanes that share the bar, in units of the SVG
constexpr int strip_height = 4;  // of the messages beneath it
constexpr int gap_height = 2;
constexpr int whole_height = bar_height + gap_height + strip_height;

double mean(const std::vector<double>& shares) {
  double sum = 0;
  for (double share : shares) sum += share;
  return sum / static_cast<double>(shares.size());
}

// Rectangles of one colour; neighbours of the same height are one.
std::string rectangles(std::string_view lane, const std::vector<int>& bottom,
                       const std::vector<int>& top) {
  std::string path;
  for (size_t begin = 0; begin < top.size();) {
    size_t end = begin + 1;
    while (end < top.size() && top[end] == top[begin] && bottom[end] == bottom[begin]) ++end;
    if (const int height = bottom[begin] - top[begin]; height > 0)
      path += fmt::format("M{} {}h{}v{}h-{}z", begin, top[begin], end - begin, height, end - begin);
    begin = end;
  }
  return path.empty() ? "" : fmt::format("<path class=\"{}\" d=\"{}\"/>", lane, path);
}

using LaneShares = std::array<std::vector<double>, lanes.size()>;

// The lanes of the bar are stacked, so that what is left empty is idle time.
std::string drawing(const LaneShares& shares) {
  const size_t count = shares[0].size();
  std::string paths;
  std::vector<double> sum(count);
  std::vector<int> bottom(count, bar_height);
  for (size_t lane = 0; lane + 1 < lanes.size(); ++lane) {
    std::vector<int> top(count);
    for (size_t i = 0; i < count; ++i) {
      sum[i] = std::min(1.0, sum[i] + shares[lane][i]);
      top[i] = bar_height - static_cast<int>(std::lround(sum[i] * bar_height));
    }
    paths += rectangles(lane_name(lanes[lane]), bottom, top);
    bottom = top;
  }
  std::vector<int> top(count);
  for (size_t i = 0; i < count; ++i)
    top[i] = whole_height - static_cast<int>(std::ceil(shares.back()[i] * strip_height - 1e-9));
  return paths + rectangles(lane_name(lanes.back()), std::vector<int>(count, whole_height), top);
}

std::string rank_row(const RankSpans& rank, const LaneShares& shares, Table& figures) {
  std::vector<std::string> cells{rank_title(rank)};
  std::string description = rank_title(rank) + ":";
  for (size_t lane = 0; lane < lanes.size(); ++lane) {
    cells.push_back(format_share(mean(shares[lane])));
    description += fmt::format("{} {} {}", lane ? "," : "", lane_name(lanes[lane]), cells.back());
  }
  figures.add_row(cells);
  const double busy = mean(shares[0]) + mean(shares[1]);
  return fmt::format(
      "<div class=\"rank\"><span>{0}</span><svg viewBox=\"0 0 {1} {2}\" "
      "preserveAspectRatio=\"none\" "
      "shape-rendering=\"crispEdges\" role=\"img\" aria-label=\"{3}\"><title>{3}</title>{4}</svg>"
      "<span class=\"share\">{5:.0f} %</span></div>\n",
      escape_html(rank_title(rank)), shares[0].size(), whole_height, escape_html(description),
      drawing(shares), 100 * std::min(1.0, busy));
}

}  // namespace

void HtmlReport::timeline(std::string_view title, std::span<const RankSpans> ranks,
                          const TimeWindow& window) {
  const int64_t count =
      std::clamp<int64_t>(12'000 / std::max<int64_t>(1, std::ssize(ranks)), 120, 1000);
  body_ +=
      fmt::format("<figure><figcaption>{}</figcaption>\n<ul class=\"legend\">", escape_html(title));
  Table figures({{"rank", Align::left}, {"attention"}, {"expert"}, {"wait"}, {"message"}});
  for (Lane lane : lanes)
    body_ += fmt::format("<li><i class=\"{0}\"></i>{0}</li>", lane_name(lane));
  body_ += "<li>height: share of the time</li><li>at the right: share spent computing</li></ul>\n";
  for (const RankSpans& rank : ranks) {
    LaneShares shares;
    for (size_t lane = 0; lane < lanes.size(); ++lane)
      shares[lane] = lane_coverage(rank.spans, lanes[lane], window, count);
    body_ += rank_row(rank, shares, figures);
  }
  body_ += "<div class=\"axis\"><div class=\"ticks\">";
  for (int tick = 0; tick <= 4; ++tick)
    body_ += fmt::format("<span>{}</span>", format_seconds(window.seconds() * tick / 4));
  body_ += "</div></div>\n" + html_figures(figures) + "</figure>\n";
}

}  // namespace tandem
