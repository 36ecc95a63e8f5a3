// What the controller asks of the ranks. Every rank gets every command, and answers with a Report.
// Commands travel as messages of 32-bit words, the same in every world.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tandem/device/operations.h"

namespace tandem {

// Some consecutive tokens of one sequence, and which part of the plan works on them.
struct SequenceWork {
  int32_t slot = 0;  // inference: whose K/V; training: number in the global batch
  int32_t copy = 0;
  int32_t home = 0;         // see home_shard()
  int32_t micro_batch = 0;  // within its group
  int32_t group = 0;        // training: groups of micro-batches follow each other
  int32_t first_position = 0;
  int32_t sample = 0;  // inference: whether to draw the next token after the last of these
  Sampling sampling;
  std::vector<int32_t> tokens;
  std::vector<int32_t> targets;  // training: one a token
  std::vector<float> weights;    // training: 0 masks a token
};

enum class CommandKind : int32_t {
  plan_memory,  // slots, tokens_per_slot: make the K/V cache anew
  infer,        // sequences
  release,      // slots that are done
  train,        // sequences, hyper-parameters: forward, backward, optimizer
  evaluate,     // sequences: losses alone
  gradients,    // as train, but leaves the summed gradients where they are
  stop,
};

struct TrainingStep {
  int64_t step = 1;  // counts from 1
  float learning_rate = 0;
  float beta1 = 0.9f, beta2 = 0.95f, epsilon = 1e-8f, weight_decay = 0.1f;
  float clip_norm = 1;  // 0: no clipping
  int32_t groups = 1;
  uint64_t seed = 0;
  int32_t checkpoint_activations = 0;
};

struct Command {
  CommandKind kind = CommandKind::stop;
  int64_t slots = 0, tokens_per_slot = 0;
  int32_t want_logits = 0;
  int32_t record_routing = 0;
  TrainingStep training;
  std::vector<SequenceWork> sequences;  // ordered by copy, group, micro-batch, home
  std::vector<int32_t> released;
};

// What a rank answers. Numbers that several ranks hold are reported by one of them alone.
struct Report {
  int32_t failed = 0;
  std::string error;  // where failed
  // inference: sampled token a slot
  std::vector<int32_t> slots, tokens;
  // training: sums over this rank's tokens
  double loss_sum = 0, balance_loss = 0, z_loss = 0, token_weight = 0;
  double gradient_norm = 0;
  // tokens routed to each [layer][expert] since the last report, by this rank's tokens
  std::vector<int32_t> expert_tokens;
  // where asked for: layer, slot, position, top_k experts of each of this rank's tokens
  std::vector<int32_t> routing;

  void clear();  // as new, but for the memory of its arrays
};

std::vector<int32_t> to_words(const Command& command);
void from_words(std::span<const int32_t> words, Command& command);
void to_words(const Report& report, std::vector<int32_t>& words);  // written over
void from_words(std::span<const int32_t> words, Report& report);

}  // namespace tandem
