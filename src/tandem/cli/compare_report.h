// `tandem compare` as one HTML file.
#pragma once

#include <span>
#include <string>

#include "tandem/cli/comparison.h"
#include "tandem/model/config.h"
#include "tandem/report/table.h"

namespace tandem::cli {

struct CompareReport {
  std::string file;     // where it goes
  std::string history;  // JSON of `tandem train`, or empty
  std::string model;    // directory
  std::string work;     // one line on what was run
};

// InputError where the history cannot be read as what `tandem train --json` writes.
void write_report(const CompareReport& report, const ModelConfig& model, DType dtype,
                  std::span<const PlanResult> results);

// The same InputError, before any work is done.
void check_history(const std::string& file);

Table comparison_table(std::span<const PlanResult> results);
// Mean over layers of the busiest expert's tokens over the mean expert's.
double expert_load_max_over_mean(const PlanResult& result, const ModelConfig& model);

}  // namespace tandem::cli
