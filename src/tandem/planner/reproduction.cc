#include "tandem/planner/reproduction.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "tandem/plan/shorthand.h"

namespace tandem {
namespace {

double mean_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

// Where `comparison` says that both sides are alike.
double neutral(Comparison comparison) { return comparison == Comparison::ratio ? 1 : 0; }

double compare(Comparison comparison, double own, double other) {
  switch (comparison) {
    case Comparison::none:
      return own;
    case Comparison::ratio:
      return own / other;
    case Comparison::increase:
      return own / other - 1;
    case Comparison::reduction:
      return 1 - own / other;
  }
  return own;
}

std::optional<bool> same_sign(double a, double b) {
  constexpr double alike = 1e-9;
  if (std::abs(a) < alike) return std::nullopt;
  return a * b > 0;
}

// Simulates each experiment once a seed.
class Laboratory {
 public:
  explicit Laboratory(std::function<void()> done) : done_(std::move(done)) {}

  const Prediction& run(const Experiment& e, uint64_t seed) {
    const auto [found, fresh] = results_.try_emplace({e, seed});
    if (!fresh) return found->second;
    const Cluster cluster = read_cluster(e.cluster);
    ModelConfig model = read_config(e.model / "config.json");
    // Claims are held against sequences longer than the model's positions all the same.
    model.max_positions = std::max(model.max_positions, e.work.context_tokens + e.steps);
    SimulationSettings settings{.steps = e.steps, .routing = e.routing, .seed = seed};
    for (const std::string& fault : e.faults) settings.faults.push_back(parse_fault(fault));
    found->second = simulate(model, plan_from_shorthand(e.plan, model), cluster, e.work, settings);
    for (RankSpans& rank : found->second.spans) rank.spans.clear();
    done_();
    return found->second;
  }

 private:
  std::function<void()> done_;
  std::map<std::pair<Experiment, uint64_t>, Prediction> results_;
};

class Reproduction {
 public:
  Reproduction(const Publication& publication, const std::function<void(int, int)>& progress)
      : publication_(publication), laboratory_([this, &progress] {
          if (progress) progress(++done_, runs_);
        }) {}

  std::vector<Finding> run(const std::vector<std::string>& numbers) {
    std::vector<const ClaimTable*> tables;
    for (const ClaimTable& table : publication_.tables)
      if (numbers.empty() || std::ranges::find(numbers, table.number) != numbers.end())
        tables.push_back(&table);
    count_runs(tables);
    for (const ClaimTable* table : tables)
      for (const Row& row : table->rows) {
        if (row.settled())
          add_settled(*table, row);
        else
          for (size_t reading = 0; reading < row.readings.size(); ++reading)
            add(*table, row, reading);
      }
    return std::move(findings_);
  }

 private:
  void count_runs(const std::vector<const ClaimTable*>& tables) {
    std::set<std::pair<Experiment, uint64_t>> needed;
    for (const ClaimTable* table : tables)
      for (const Row& row : table->rows)
        for (const std::string& name : row.settled() ? std::vector<std::string>() : row.readings)
          for (const ClaimedValue& value : row.values)
            for (const std::string& system : {value.subject.system, value.subject.against})
              for (uint64_t seed = 0; !system.empty() && seed < row.seeds; ++seed)
                needed.emplace(publication_.readings.at(name).systems.at(system), seed);
    runs_ = static_cast<int>(needed.size());
  }

  std::string in_print(const Subject& subject) const {
    const std::string& own = publication_.systems.at(subject.system);
    return subject.against.empty()
               ? own
               : fmt::format("{} against {}", own, publication_.systems.at(subject.against));
  }

  Finding start(const ClaimTable& table, const Row& row, const ClaimedValue& claimed) const {
    return {.table = table.number,
            .quantity = row.quantity,
            .unit = row.unit,
            .note = row.note,
            .subject = in_print(claimed.subject),
            .claimed = claimed};
  }

  void add_settled(const ClaimTable& table, const Row& row) {
    for (const ClaimedValue& claimed : row.values) {
      Finding& finding = findings_.emplace_back(start(table, row, claimed));
      finding.judgement = row.pending.empty()
                              ? Judgement{Verdict::not_reproducible, row.not_reproducible}
                              : Judgement{Verdict::pending, row.pending};
    }
  }

  // Of one value: by seed, in the row's unit; and the range in which it can be.
  struct Measured {
    std::vector<double> values;
    Figure figure;
  };

  Measured measure(const Row& row, const Reading& reading, const Subject& subject) {
    const double unit = unit_of(row.unit, row.quantity);
    Measured measured;
    const auto figure = [&](const std::string& system, uint64_t seed) {
      const Experiment& e = reading.systems.at(system);
      return figure_of(row.metric, laboratory_.run(e, seed), e.work);
    };
    for (uint64_t seed = 0; seed < row.seeds; ++seed) {
      const Figure own = figure(subject.system, seed);
      if (row.comparison == Comparison::none) {
        measured.values.push_back(own.value / unit);
        measured.figure = {0, own.least / unit, own.most / unit, own.limit};
      } else {
        const double other = figure(subject.against, seed).value;
        measured.values.push_back(compare(row.comparison, own.value, other) / unit);
        measured.figure.least = -std::numeric_limits<double>::infinity();
      }
    }
    measured.figure.value = mean_of(measured.values);
    return measured;
  }

  const Reading& reading_of(const Row& row, size_t reading) const {
    return publication_.readings.at(row.readings[reading]);
  }

  // An earlier reading of the row that runs the same for this subject has said it all.
  bool said_before(const Row& row, size_t reading, const Subject& subject) const {
    const auto same = [&](size_t other, const std::string& system) {
      return system.empty() || reading_of(row, reading).systems.at(system) ==
                                   reading_of(row, other).systems.at(system);
    };
    for (size_t other = 0; other < reading; ++other)
      if (same(other, subject.system) && same(other, subject.against)) return true;
    return false;
  }

  void add(const ClaimTable& table, const Row& row, size_t number) {
    const Reading& reading = reading_of(row, number);
    std::vector<Measured> all;
    for (const ClaimedValue& claimed : row.values)
      all.push_back(measure(row, reading, claimed.subject));
    for (size_t i = 0; i < all.size(); ++i) {
      const ClaimedValue& claimed = row.values[i];
      if (said_before(row, number, claimed.subject)) continue;
      Finding finding = start(table, row, claimed);
      finding.reading = reading.text;
      finding.plan = reading.systems.at(claimed.subject.system).plan;
      if (!claimed.subject.against.empty())
        finding.against_plan = reading.systems.at(claimed.subject.against).plan;
      finding.ours = all[i].figure.value;
      if (row.seeds > 1) finding.interval = interval_of_mean(all[i].values);
      finding.judgement =
          judge(claimed, all[i].figure, row.unit, direction(row, all, i), publication_.tolerance);
      findings_.push_back(std::move(finding));
    }
  }

  // A comparison has its direction in itself. Other values are held against the last of their row,
  // the last against the one before it.
  static std::optional<bool> direction(const Row& row, const std::vector<Measured>& all, size_t i) {
    const auto both = [&](double claimed, double ours) {
      return same_sign(row.values[i].value - claimed, all[i].figure.value - ours);
    };
    if (row.comparison != Comparison::none) {
      const double alike = neutral(row.comparison) / unit_of(row.unit, row.quantity);
      return both(alike, alike);
    }
    if (all.size() < 2) return std::nullopt;
    const size_t peer = i + 1 < all.size() ? all.size() - 1 : i - 1;
    return both(row.values[peer].value, all[peer].figure.value);
  }

  const Publication& publication_;
  int done_ = 0, runs_ = 0;
  Laboratory laboratory_;
  std::vector<Finding> findings_;
};

}  // namespace

const char* verdict_name(Verdict verdict) {
  constexpr const char* names[] = {"reproduced", "direction only", "not reproducible", "pending"};
  return names[static_cast<size_t>(verdict)];
}

Judgement judge(const ClaimedValue& claimed, const Figure& ours, const std::string& unit,
                std::optional<bool> same_direction, double tolerance) {
  const double value = claimed.value;
  const auto out_of_range = [&](const char* side, double bound) {
    return Judgement{Verdict::not_reproducible, fmt::format("{} {:.{}f} {}: {}", side, bound,
                                                            bound < 100 ? 2 : 0, unit, ours.limit)};
  };
  if (claimed.above || claimed.below)
    return (claimed.above ? ours.value > value : ours.value < value)
               ? Judgement{Verdict::reproduced, ""}
               : Judgement{Verdict::not_reproducible, "the other way round here"};
  if (std::abs(ours.value - value) <= tolerance * std::abs(value)) return {Verdict::reproduced, ""};
  if (value < ours.least) return out_of_range("below", ours.least);
  if (value > ours.most) return out_of_range("above", ours.most);
  if (same_direction == true) return {Verdict::direction_only, ""};
  if (same_direction == false) return {Verdict::not_reproducible, "the other way round here"};
  return {Verdict::not_reproducible, "another value here"};
}

double interval_of_mean(const std::vector<double>& values) {
  if (values.size() < 2) return 0;
  const double mean = mean_of(values), n = static_cast<double>(values.size()), f = n - 1;
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  // Student's quantile from the normal one (Abramowitz and Stegun, 26.7.5).
  const double z = 1.959964, z2 = z * z;
  const double student = z + z * (z2 + 1) / (4 * f) + z * ((5 * z2 + 16) * z2 + 3) / (96 * f * f) +
                         z * (((3 * z2 + 19) * z2 + 17) * z2 - 15) / (384 * f * f * f);
  return student * std::sqrt(squares / f / n);
}

std::vector<Finding> reproduce(const Publication& publication,
                               const std::vector<std::string>& tables,
                               const std::function<void(int, int)>& progress) {
  for (const std::string& number : tables)
    if (std::ranges::find(publication.tables, number, &ClaimTable::number) ==
        publication.tables.end())
      throw InputError("{}: no table {}", publication.title, number);
  return Reproduction(publication, progress).run(tables);
}

}  // namespace tandem
