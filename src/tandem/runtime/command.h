// What the controller asks of the ranks. Every rank gets every command, and answers with a Report.
// Commands travel as messages of 32-bit words, the same in every world.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tandem/device/operations.h"

namespace tandem {

// Some consecutive tokens of one sequence, and which part of the plan works on them. Views: of
// whoever gives the command, or of the words it came in.
struct SequenceWork {
  int32_t slot = 0;  // inference: whose K/V; training: number in the global batch
  int32_t copy = 0;
  int32_t home = 0;         // see home_shard()
  int32_t micro_batch = 0;  // within its group
  int32_t group = 0;        // training: groups of micro-batches follow each other
  int32_t first_position = 0;
  int32_t sample = 0;  // inference: whether to draw the next token after the last of these
  Sampling sampling;
  std::span<const int32_t> tokens;
  std::span<const int32_t> targets;  // training: one a token
  std::span<const float> weights;    // training: 0 masks a token
};

enum class CommandKind : int32_t {
  plan_memory,  // slots, tokens_per_slot: make the K/V cache anew
  infer,        // sequences
  release,      // slots that are done
  train,        // sequences, hyper-parameters: forward, backward, optimizer
  evaluate,     // sequences: losses alone
  gradients,    // as train, but leaves the summed gradients where they are
  // What a rank holds, to and from the controller (hand_over.cc):
  take_weights,    // `ranks`: theirs follow, region by region; optimizers begin anew
  take_optimizer,  // every rank's pieces follow
  give_pieces,     // `ranks` (one): `piece_state` of its pieces `first_piece` .. `end_piece`
  move,            // the ranks take up `plan` with all they hold (move.cc)
  restore_cache,   // `ranks` without their K/V: from their `sources`, for `sequences`
};

// What an optimizer keeps of a piece of a parameter.
enum class PieceState : int32_t { weight, gradient, first_moment, second_moment, master };

struct TrainingStep {
  int64_t step = 1;  // counts from 1
  float learning_rate = 0;
  float beta1 = 0.9f, beta2 = 0.95f, epsilon = 1e-8f, weight_decay = 0.1f;
  float clip_norm = 1;  // 0: no clipping
  int32_t groups = 1;
  uint64_t seed = 0;
  int32_t checkpoint_activations = 0;
  GradientCoding coding = GradientCoding::plain;  // on the way to whoever sums
};

struct Command {
  CommandKind kind = CommandKind::infer;
  int64_t slots = 0, tokens_per_slot = 0;
  int32_t want_logits = 0;
  int32_t record_routing = 0;
  int32_t forget_spans = 0;  // those recorded so far
  TrainingStep training;
  std::vector<SequenceWork> sequences;  // ordered by copy, group, micro-batch, home
  std::vector<int32_t> released;
  std::vector<int32_t> ranks;
  std::vector<int32_t> sources;  // a rank for each of `ranks`; -1: nobody has its K/V
  PieceState piece_state = PieceState::weight;
  int32_t first_piece = 0, end_piece = 0;
  std::string plan;           // as YAML
  int32_t moves_weights = 0;  // ranks do not compute with one and the same store
};

// What a rank answers. Numbers that several ranks hold are reported by one of them alone.
struct Report {
  int32_t failed = 0;
  int32_t lost_peer = 0;  // it failed since a peer is lost
  std::string error;      // where failed
  // inference: sampled token a slot
  std::vector<int32_t> slots, tokens;
  // training: sums over this rank's tokens
  double loss_sum = 0, balance_loss = 0, z_loss = 0, token_weight = 0;
  double gradient_norm = 0;
  // memory of its device: the K/V cache, and the most there ever was
  int64_t cache_bytes = 0, peak_bytes = 0;
  // seconds of its operations since the last report: of no layer, then by layer of the model
  std::vector<float> attention_seconds, expert_seconds;
  // tokens routed to each [layer][expert] since the last report, by this rank's tokens
  std::vector<int32_t> expert_tokens;
  // where asked for: layer, slot, position, top_k experts of each of this rank's tokens
  std::vector<int32_t> routing;

  void clear();  // as new, but for the memory of its arrays
};

std::vector<int32_t> to_words(const Command& command);
void from_words(std::span<const int32_t> words, Command& command);  // which views the words
void to_words(const Report& report, std::vector<int32_t>& words);   // written over
void from_words(std::span<const int32_t> words, Report& report);

}  // namespace tandem
