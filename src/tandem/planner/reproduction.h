// What a publication claims beside what a simulation of the same experiment says. Used by one
// thread.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tandem/planner/figure.h"
#include "tandem/planner/publication.h"

namespace tandem {

enum class Verdict : uint8_t { reproduced, direction_only, not_reproducible, pending };
const char* verdict_name(Verdict verdict);  // "reproduced", "direction only", ...

struct Judgement {
  Verdict verdict = Verdict::pending;
  std::string reason;  // why not reproduced
};

// `ours` and `claimed` in the same unit, named for the reason. `same_direction`: whether ours
// differs from its peer in the way the claimed value does; not known where there is no peer.
Judgement judge(const ClaimedValue& claimed, const Figure& ours, const std::string& unit,
                std::optional<bool> same_direction, double tolerance);

// One claimed value under one reading; or one that is settled without a run.
struct Finding {
  std::string table, quantity, unit, note;
  std::string subject;  // in print: "MA Separation", "MA Separation against TP=8"
  std::string reading;  // its text; empty where settled
  std::string plan, against_plan;
  ClaimedValue claimed;
  std::optional<double> ours;      // mean over seeds, in the unit
  std::optional<double> interval;  // half of the mean's 95 % interval, with several seeds
  Judgement judgement;
};

// Findings of the tables named, in order; of all where none is named. InputError for a number that
// is none of the publication's.
std::vector<Finding> reproduce(const Publication& publication,
                               const std::vector<std::string>& tables,
                               const std::function<void(int done, int all)>& progress = {});

// Half of the 95 % interval of the mean (Student); 0 for fewer than two values.
double interval_of_mean(const std::vector<double>& values);

}  // namespace tandem
