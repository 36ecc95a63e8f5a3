// Whole steps of a model: prefill, decode under several plans, training.
#pragma once

#include <string>
#include <vector>

#include "tandem/cli/bench_figures.h"
#include "tandem/world/engine.h"

namespace tandem::cli {

struct DecodeCase {
  std::string plan;
  int64_t sequences = 1;
  int64_t context_tokens = 0;
};

class StepBench {
 public:
  StepBench(Bench& bench, ParameterStore& store) : bench_(bench), store_(store) {}

  Figure prefill(int64_t tokens);
  // Keys and values of the context are random numbers: their speed is that of any others.
  Figure decode(const std::string& section, const DecodeCase& one);
  // Changes the weights.
  Figure training(int64_t sequences, int64_t sequence_tokens);
  static int64_t training_bytes(const ModelConfig& model, DType dtype);  // without activations

 private:
  Figure measure(Figure figure, Engine& engine, const std::function<void()>& step);
  void add_work(Figure& figure, Engine& engine, int64_t steps, const TimeWindow& window,
                const Ceilings& rank_ceilings) const;
  WorldSettings world(bool trainable) const {
    return {.threads = bench_.settings().threads,
            .keep_all_spans = true,
            .rank = {.trainable = trainable}};
  }

  Bench& bench_;
  ParameterStore& store_;
};

}  // namespace tandem::cli
