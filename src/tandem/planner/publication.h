// What a publication claims, table by table, and what is to be run for each figure: plain data,
// read from YAML (docs/reproduce.md). Safe to read from any thread once made.
//
// A publication says little of how its figures came about, and sometimes two things at once. So
// experiments come in *readings*: one reading says, for each *system* that the publication compares
// (a strategy, a number of GPUs, a length), what was run.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "tandem/planner/workload.h"

namespace tandem {

struct Experiment {
  std::filesystem::path model, cluster;
  std::string plan;
  std::string routing = "uniform";
  Workload work;
  int steps = 1;
  std::vector<std::string> faults;  // parse_fault()
  friend auto operator<=>(const Experiment&, const Experiment&) = default;
};

struct Reading {
  std::string text;
  std::map<std::string, Experiment> systems;
};

// "ma/tp-pp" holds a system against another one.
struct Subject {
  std::string system, against;
};

enum class Comparison : uint8_t { none, ratio, increase, reduction };

struct ClaimedValue {
  Subject subject;
  double value = 0;  // as printed, in the row's unit
  // "> 0", "< 1": a bound in place of a value.
  bool above = false, below = false;
};

struct Row {
  std::string quantity, unit;
  std::string metric;  // see figure_of()
  Comparison comparison = Comparison::none;
  std::vector<ClaimedValue> values;   // in the publication's order
  std::vector<std::string> readings;  // names
  uint64_t seeds = 1;                 // of the routing
  std::string note;
  // Where no run can tell: why not, or what is missing.
  std::string not_reproducible, pending;

  bool settled() const { return !not_reproducible.empty() || !pending.empty(); }
};

struct ClaimTable {
  std::string number, title;
  std::vector<Row> rows;
};

struct Publication {
  std::string title, setting;
  double tolerance = 0.1;                      // relative; what counts as reproduced
  std::map<std::string, std::string> systems;  // names in print
  std::map<std::string, Reading> readings;
  std::vector<ClaimTable> tables;
};

// Paths in it are relative to the file. InputError naming file, table, row and field.
Publication read_publication(const std::filesystem::path& file);
Publication parse_publication(const std::string& yaml, const std::filesystem::path& where);

}  // namespace tandem
