// What a run's spans say about it: use of the devices, waiting, communication, operations.
// One piece of code for real and simulated runs. Pure functions, safe from any thread.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tandem/trace/span.h"

namespace tandem {

struct RankSpans {
  int rank = 0;
  bool attention = false;  // a rank may be in both groups
  bool expert = false;
  std::vector<Span> spans;
};

// "rank 3 (attention)", "rank 0 (attention, expert)".
std::string rank_title(const RankSpans& rank);

// An operation of either group, not a message or a wait.
inline bool computes(const Span& span) {
  return span.lane == Lane::attention || span.lane == Lane::expert;
}

struct TimeWindow {
  double begin_seconds = 0;
  double end_seconds = 0;
  double seconds() const { return end_seconds - begin_seconds; }
  friend bool operator==(const TimeWindow&, const TimeWindow&) = default;
};

// From the first start to the last end of any span; {0, 0} where there is none.
TimeWindow whole_window(std::span<const RankSpans> ranks);

// What one rank's device can do at most; 0 where it is not known.
struct Ceilings {
  double flops_per_second = 0;
  double bytes_per_second = 0;
};

// Use of the devices of one group. Shares are of ranks x window; rates are of one rank, on average.
struct GroupUse {
  int ranks = 0;
  double utilisation = 0;  // share of wall time in a compute span of either lane
  double own_share = 0;    // the same, in the group's own lane alone
  double flops_per_second = 0;
  double bytes_per_second = 0;
  std::optional<double> flops_share;  // of the ceiling, where that is known
  std::optional<double> bytes_share;
};

struct Spread {
  double mean = 0;
  double standard_deviation = 0;  // of the population
};
Spread spread(std::span<const double> values);
// Of what is left without the largest and the smallest tenth; 0 of none.
double middle_mean(std::vector<double> values);
double median(
    std::vector<double> values);  // 0 of none; of an even number the mean of the middle two

// Messages of one kind. Time counts once where several of a kind are under way on a rank.
struct CommunicationUse {
  MessageKind kind = MessageKind::none;
  int64_t messages = 0;      // spans of the message lane
  double bytes = 0;          // of these
  double share = 0;          // of rank time with a message of this kind under way or waited for
  double waiting_share = 0;  // of rank time spent waiting for this kind: what was not hidden
};

// One line of the table of operations. Kept by name, lane and direction; compute lanes alone.
struct OperationUse {
  std::string name;
  Lane lane = Lane::attention;
  bool backward = false;
  int64_t count = 0;
  double seconds = 0;  // summed over ranks
  Cost cost;
};

struct Metrics {
  TimeWindow window;
  GroupUse attention;
  GroupUse expert;
  Spread waiting;                               // share of its wall time that a rank waits
  std::vector<double> waiting_by_rank;          // in the order of the ranks given
  std::vector<CommunicationUse> communication;  // kinds that occur, in the order of MessageKind
  double communication_share = 0;               // of all kinds but control; overlaps count once
  double under_way_share = 0;                   // the same, of messages alone, without waiting
  double hidden_share = 0;                      // of that, while the rank computes
  double utilisation = 0;                       // share of all ranks' time in a compute span
  Cost compute;                                 // of all compute spans
  std::vector<OperationUse> operations;         // most seconds first

  // Share of the time with a message under way that is hidden behind compute; 1 without messages.
  double overlap_efficiency() const {
    return under_way_share > 0 ? hidden_share / under_way_share : 1;
  }
};

// Figures over `window`; a span that crosses its border counts with the share of it that is inside,
// and overlapping spans of a rank count once in every share of time. An empty window gives zeros.
Metrics compute_metrics(std::span<const RankSpans> ranks, const TimeWindow& window,
                        const Ceilings& ceilings = {});

}  // namespace tandem
