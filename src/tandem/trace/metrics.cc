#include "tandem/trace/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <span>
#include <tuple>

namespace tandem {
namespace {

constexpr size_t kind_count = static_cast<size_t>(MessageKind::control) + 1;

// Pieces of time of which overlaps count once.
class TimeUnion {
 public:
  void add(double begin, double end) { pieces_.emplace_back(begin, end); }

  double seconds() {
    std::ranges::sort(pieces_);
    double sum = 0;
    double covered_until = -std::numeric_limits<double>::infinity();
    for (const auto& [begin, end] : pieces_) {
      sum += std::max(0.0, end - std::max(begin, covered_until));
      covered_until = std::max(covered_until, end);
    }
    return sum;
  }

 private:
  std::vector<std::pair<double, double>> pieces_;
};

// The part of a span that lies in the window.
struct Clipped {
  double begin_seconds;
  double end_seconds;
  double share;  // of the whole span
  bool inside;   // at least in part
};

Clipped clip(const Span& span, const TimeWindow& window) {
  const double begin = std::max(span.start_seconds, window.begin_seconds);
  const double end = std::min(span.end_seconds, window.end_seconds);
  const double whole = span.end_seconds - span.start_seconds;
  if (whole <= 0) {  // an instant: inside or not
    const bool inside = begin <= end;
    return {begin, begin, inside ? 1.0 : 0.0, inside};
  }
  return {begin, end, std::max(0.0, end - begin) / whole, end > begin};
}

// Everything about one rank that shares of time are made of, in seconds.
struct RankTime {
  double compute = 0;
  double attention = 0;
  double expert = 0;
  double wait = 0;
  double communication = 0;
  double under_way = 0;
  double compute_or_under_way = 0;
  std::array<double, kind_count> kind{};
  std::array<double, kind_count> kind_wait{};
  Cost compute_cost;
};

using OperationKey = std::tuple<std::string_view, Lane, bool>;
using Operations = std::map<OperationKey, OperationUse>;
using Messages = std::array<CommunicationUse, kind_count>;

void count_operation(const Span& span, const Clipped& part, Operations& operations) {
  auto [found, fresh] = operations.try_emplace({span.name, span.lane, span.backward});
  OperationUse& use = found->second;
  if (fresh) {
    use.name = span.name;
    use.lane = span.lane;
    use.backward = span.backward;
  }
  ++use.count;
  use.seconds += part.end_seconds - part.begin_seconds;
  use.cost += {span.cost.flops * part.share, span.cost.bytes * part.share};
}

RankTime rank_time(const RankSpans& rank, const TimeWindow& window, Operations& operations,
                   Messages& messages) {
  RankTime time;
  TimeUnion compute, attention, expert, wait, communication, under_way, compute_or_under_way;
  std::array<TimeUnion, kind_count> kind, kind_wait;
  for (const Span& span : rank.spans) {
    const Clipped part = clip(span, window);
    if (!part.inside) continue;
    const auto k = static_cast<size_t>(span.kind);
    if (computes(span)) {
      compute.add(part.begin_seconds, part.end_seconds);
      compute_or_under_way.add(part.begin_seconds, part.end_seconds);
      (span.lane == Lane::attention ? attention : expert).add(part.begin_seconds, part.end_seconds);
      time.compute_cost += {span.cost.flops * part.share, span.cost.bytes * part.share};
      count_operation(span, part, operations);
      continue;
    }
    kind[k].add(part.begin_seconds, part.end_seconds);
    if (span.kind != MessageKind::none && span.kind != MessageKind::control) {
      communication.add(part.begin_seconds, part.end_seconds);
      if (span.lane == Lane::message) {
        under_way.add(part.begin_seconds, part.end_seconds);
        compute_or_under_way.add(part.begin_seconds, part.end_seconds);
      }
    }
    if (span.lane == Lane::wait) {
      wait.add(part.begin_seconds, part.end_seconds);
      kind_wait[k].add(part.begin_seconds, part.end_seconds);
    } else {
      ++messages[k].messages;
      messages[k].bytes += span.cost.bytes * part.share;
    }
  }
  time.compute = compute.seconds();
  time.attention = attention.seconds();
  time.expert = expert.seconds();
  time.wait = wait.seconds();
  time.communication = communication.seconds();
  time.under_way = under_way.seconds();
  time.compute_or_under_way = compute_or_under_way.seconds();
  for (size_t k = 0; k < kind_count; ++k) {
    time.kind[k] = kind[k].seconds();
    time.kind_wait[k] = kind_wait[k].seconds();
  }
  return time;
}

GroupUse group_use(std::span<const RankSpans> ranks, const std::vector<RankTime>& times,
                   bool RankSpans::*member, double RankTime::*own, double window_seconds,
                   const Ceilings& ceilings) {
  GroupUse use;
  double compute_seconds = 0, own_seconds = 0;
  Cost cost;
  for (size_t i = 0; i < ranks.size(); ++i) {
    if (!(ranks[i].*member)) continue;
    ++use.ranks;
    compute_seconds += times[i].compute;
    own_seconds += times[i].*own;
    cost += times[i].compute_cost;
  }
  const double rank_seconds = use.ranks * window_seconds;
  if (rank_seconds > 0) {
    use.utilisation = compute_seconds / rank_seconds;
    use.own_share = own_seconds / rank_seconds;
    use.flops_per_second = cost.flops / rank_seconds;
    use.bytes_per_second = cost.bytes / rank_seconds;
  }
  if (ceilings.flops_per_second > 0)
    use.flops_share = use.flops_per_second / ceilings.flops_per_second;
  if (ceilings.bytes_per_second > 0)
    use.bytes_share = use.bytes_per_second / ceilings.bytes_per_second;
  return use;
}

// Kinds that occur, with the shares of time filled in.
std::vector<CommunicationUse> communication_use(const Messages& messages,
                                                const std::vector<RankTime>& times,
                                                double rank_seconds) {
  std::vector<CommunicationUse> uses;
  for (size_t k = 0; k < kind_count; ++k) {
    CommunicationUse use = messages[k];
    use.kind = static_cast<MessageKind>(k);
    double seconds = 0, waiting_seconds = 0;
    for (const RankTime& time : times) {
      seconds += time.kind[k];
      waiting_seconds += time.kind_wait[k];
    }
    if (use.messages == 0 && seconds == 0) continue;
    use.share = rank_seconds > 0 ? seconds / rank_seconds : 0;
    use.waiting_share = rank_seconds > 0 ? waiting_seconds / rank_seconds : 0;
    uses.push_back(use);
  }
  return uses;
}

}  // namespace

std::string rank_title(const RankSpans& rank) {
  if (!rank.attention && !rank.expert) return fmt::format("rank {}", rank.rank);
  return fmt::format("rank {} ({}{}{})", rank.rank, rank.attention ? "attention" : "",
                     rank.attention && rank.expert ? ", " : "", rank.expert ? "expert" : "");
}

TimeWindow whole_window(std::span<const RankSpans> ranks) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  TimeWindow window{infinity, -infinity};
  for (const RankSpans& rank : ranks) {
    for (const Span& span : rank.spans) {
      window.begin_seconds = std::min(window.begin_seconds, span.start_seconds);
      window.end_seconds = std::max(window.end_seconds, span.end_seconds);
    }
  }
  return window.begin_seconds == infinity ? TimeWindow{} : window;
}

double middle_mean(std::vector<double> values) {
  if (values.empty()) return 0;
  std::ranges::sort(values);
  const size_t cut = values.size() / 10;
  const std::span middle = std::span(values).subspan(cut, values.size() - 2 * cut);
  return std::accumulate(middle.begin(), middle.end(), 0.0) / static_cast<double>(middle.size());
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::ranges::sort(values);
  const size_t middle = values.size() / 2;
  return values.size() % 2 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

Spread spread(std::span<const double> values) {
  if (values.empty()) return {};
  const auto count = static_cast<double>(values.size());
  Spread result;
  for (double value : values) result.mean += value / count;
  double variance = 0;
  for (double value : values) variance += (value - result.mean) * (value - result.mean) / count;
  result.standard_deviation = std::sqrt(variance);
  return result;
}

Metrics compute_metrics(std::span<const RankSpans> ranks, const TimeWindow& window,
                        const Ceilings& ceilings) {
  Metrics metrics;
  metrics.window = window;
  const double seconds = std::max(0.0, window.seconds());

  Operations operations;
  Messages messages;
  std::vector<RankTime> times;
  const double rank_seconds = seconds * static_cast<double>(ranks.size());
  for (const RankSpans& rank : ranks) {
    times.push_back(rank_time(rank, window, operations, messages));
    const RankTime& time = times.back();
    if (rank_seconds > 0) {
      const double hidden = time.compute + time.under_way - time.compute_or_under_way;
      metrics.communication_share += time.communication / rank_seconds;
      metrics.under_way_share += time.under_way / rank_seconds;
      metrics.hidden_share += hidden / rank_seconds;
      metrics.utilisation += time.compute / rank_seconds;
    }
    metrics.compute += time.compute_cost;
    metrics.waiting_by_rank.push_back(seconds > 0 ? time.wait / seconds : 0);
  }
  metrics.attention =
      group_use(ranks, times, &RankSpans::attention, &RankTime::attention, seconds, ceilings);
  metrics.expert =
      group_use(ranks, times, &RankSpans::expert, &RankTime::expert, seconds, ceilings);
  metrics.waiting = spread(metrics.waiting_by_rank);
  metrics.communication = communication_use(messages, times, rank_seconds);
  for (auto& [key, use] : operations) metrics.operations.push_back(use);
  std::ranges::stable_sort(metrics.operations, std::ranges::greater{}, &OperationUse::seconds);
  return metrics;
}

}  // namespace tandem
