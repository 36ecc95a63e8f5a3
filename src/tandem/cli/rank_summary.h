// Who holds what under a plan, and the memory it takes. Pure functions, safe from any thread.
#pragma once

#include <string>
#include <vector>

#include "tandem/device/tensor.h"
#include "tandem/plan/layout.h"

namespace tandem::cli {

struct MemoryAssumptions {
  DType dtype = DType::bf16;
  int64_t sequences = 1;       // in inference, in all
  int64_t context_tokens = 0;  // of each
};

struct RankSummary {
  int rank = 0;
  Role role;
  Interval layers;
  Interval heads, kv_heads;  // empty on a rank without attention
  std::string experts;       // "0-3", "0-3 (1/2)" where split; "-" where there are none
  int64_t parameters = 0;    // that the rank computes with
  // Bytes for inference
  int64_t weight_bytes = 0, kv_bytes = 0;
  // and what training adds
  int64_t gradient_bytes = 0;   // f32
  int64_t optimizer_bytes = 0;  // two moments, and master weights unless dtype is f32
};

std::vector<RankSummary> summarise(const Plan& plan, const ModelConfig& model,
                                   const MemoryAssumptions& assumptions);

// "0-2", "5"; "-" where there are none.
std::string range_text(const Interval& range);

}  // namespace tandem::cli
