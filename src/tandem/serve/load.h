// Load for any address that speaks OpenAI's API, and what it makes of it: streamed completions,
// from clients that each wait for their answer, or at random moments whoever waits.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tandem/serve/quantiles.h"

namespace tandem {

struct LoadSettings {
  std::string url = "http://127.0.0.1:8000";
  std::string key;
  std::string model;               // empty: the first that the address has
  int clients = 0;                 // with a rate: how many requests may be under way
  double rate_per_second = 0;      // of a Poisson process; 0: clients follow each other at once
  double seconds = 30;             // in which requests begin
  int64_t prompt_tokens = 128;     // of made-up prompts: ids from 100 to 255, which every model has
  std::vector<std::string> lines;  // prompts, in turn, instead of made-up ones
  int64_t max_tokens = 64;
  bool ignores_end = false;  // asks for max_tokens whatever the model says; not every server can
  uint64_t seed = 0;
  double timeout_seconds = 600;  // of an answer
};

struct LoadResult {
  int64_t requests = 0;                   // that ended, well or not
  std::map<std::string, int64_t> errors;  // by what went wrong
  int64_t prompt_tokens = 0, answer_tokens = 0;
  double seconds = 0;      // until the last answer
  Quantiles ttft_seconds;  // from when the request was due
  Quantiles tpot_seconds;  // mean over an answer's tokens after the first
  double mean_ttft_seconds = 0, mean_tpot_seconds = 0;

  int64_t failed() const;
};

// InputError for settings that make no sense, WorldError where nobody answers at all.
LoadResult run_load(const LoadSettings& settings);

}  // namespace tandem
