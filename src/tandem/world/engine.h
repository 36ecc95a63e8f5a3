// The controller's side of a world: turns sequences and batches into commands, and the ranks'
// reports into results. Used by one thread.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tandem/trace/metrics.h"
#include "tandem/world/local_world.h"

namespace tandem {

// Some tokens to run for one sequence; see SequenceWork. Positions continue where the slot's last
// tokens ended.
struct SequenceTokens {
  int32_t slot = 0;
  int32_t first_position = 0;
  std::vector<int32_t> tokens;
  bool sample = true;
  Sampling sampling;
};

struct Sampled {
  std::vector<int32_t> tokens;  // one for each sequence that asked, in the order they were given
  Tensor logits;                // f32 [as many, vocab], where asked for
};

// Sequences of equal length; arrays [sequences * sequence_tokens].
struct TrainingBatch {
  int64_t sequences = 0, sequence_tokens = 0;
  std::vector<int32_t> inputs, targets;
  std::vector<float> weights;  // 0 masks a token
};

struct TrainingResult {
  double loss = 0;          // mean over counted tokens, without the losses below
  double balance_loss = 0;  // as added to the loss, summed over layers
  double z_loss = 0;
  double gradient_norm = 0;  // before clipping
};

class Engine {
 public:
  // Ranks start at once. InputError where the plan does not fit the store's model.
  Engine(Plan plan, ParameterStore& store, const MakeWorld& make_world);
  // In this process.
  Engine(Plan plan, ParameterStore& store, const WorldSettings& settings);
  ~Engine();

  const Plan& plan() const { return plan_; }
  const ModelConfig& model() const { return store_.config(); }
  ParameterStore& store() const { return store_; }
  World& world() { return *world_; }
  // What the ranks have recorded, in their order; and a fresh start.
  std::vector<RankSpans> spans();
  void clear_spans();

  // Slots are numbered 0 .. slots-1; each sequence may have up to tokens_per_slot tokens.
  void plan_memory(int64_t slots, int64_t tokens_per_slot);
  // Runs all sequences through the model in one step. InputError for a token or a slot that is not
  // there, WorldError where a rank fails.
  Sampled infer(std::span<const SequenceTokens> sequences, bool want_logits = false);
  void release(std::span<const int32_t> slots);

  // groups: gradient accumulation; a group's micro-batches (of the plan) are in flight together.
  TrainingResult train(const TrainingBatch& batch, const TrainingStep& step);
  // As train, but leaves weights alone: the summed gradients stay with the ranks.
  TrainingResult gradients(const TrainingBatch& batch, const TrainingStep& step);
  TrainingResult evaluate(const TrainingBatch& batch);

  // Tokens routed to [layer][expert] since it was last cleared.
  const std::vector<int64_t>& expert_tokens() const { return expert_tokens_; }
  // From now on every inference step notes where its tokens go: layer, slot, position and top_k
  // experts, for each token and layer.
  void record_routing() { records_routing_ = true; }
  const std::vector<int32_t>& routing() const { return routing_; }
  void clear_expert_tokens() { expert_tokens_.assign(expert_tokens_.size(), 0); }

 private:
  std::vector<Report> run(const Command& command);
  TrainingResult run_training(CommandKind kind, const TrainingBatch& batch,
                              const TrainingStep& step);
  void place(Command& command);

  Plan plan_;
  ParameterStore& store_;
  std::unique_ptr<World> world_;
  Recorder recorder_;
  std::vector<Tensor> logits_;  // of the last run, by rank
  std::vector<int64_t> expert_tokens_;
  int64_t slots_ = 0;  // that memory is planned for
  bool records_routing_ = false;
  std::vector<int32_t> routing_;
  std::string failure_;  // set once a rank has failed: the ranks are out of step from then on
};

}  // namespace tandem
