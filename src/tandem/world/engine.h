// The controller's side of a world: turns sequences and batches into commands, and the ranks'
// reports into results. Used by one thread.
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "tandem/runtime/optimizer.h"
#include "tandem/trace/metrics.h"
#include "tandem/world/local_world.h"
#include "tandem/world/observation.h"

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

// A rank was lost in the middle of a training step: its part of the weights and of the optimizer is
// gone. The engine can go on once it has been given them anew (send_weights, send_optimizer).
class StateLost : public WorldError {
 public:
  using WorldError::WorldError;
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
  void clear_spans() { forgets_spans_ = true; }

  // Slots are numbered 0 .. slots-1; each sequence may have up to tokens_per_slot tokens.
  void plan_memory(int64_t slots, int64_t tokens_per_slot);
  // Runs all sequences through the model in one step. InputError for a token or a slot that is not
  // there, WorldError where a rank fails. Where a rank is lost and the world can recover, so does
  // the step: its K/V come from a rank that mirrors them, or the sequences are prefilled again.
  Sampled infer(std::span<const SequenceTokens> sequences, bool want_logits = false);
  void release(std::span<const int32_t> slots);

  // groups: gradient accumulation; a group's micro-batches (of the plan) are in flight together.
  TrainingResult train(const TrainingBatch& batch, const TrainingStep& step);
  // As train, but leaves weights alone: the summed gradients stay with the ranks.
  TrainingResult gradients(const TrainingBatch& batch, const TrainingStep& step);
  TrainingResult evaluate(const TrainingBatch& batch);

  // ---- what ranks hold in training (engine_state.cc) ----
  // body(piece, its numbers) for every piece that some rank updates.
  using OnPiece = std::function<void(const Region&, const Tensor&)>;
  void fetch(PieceState state, const OnPiece& body);
  // Every rank gets the weights of `from`; optimizers begin anew.
  void send_weights(const ParameterStore& from);
  // And their optimizers what `state_of` says of each piece: f32.
  using StateOf = std::function<Tensor(const Region&, PieceState)>;
  void send_optimizer(const StateOf& state_of);

  // ---- another plan, between steps (engine_move.cc) ----
  // Weights, optimizers and K/V go where it wants them; what is computed stays the same. InputError
  // where it does not fit the model, or has another number of ranks. In training, StateLost where a
  // rank is lost on the way; the new plan is in force then, too.
  void move_to(const Plan& plan);
  // That would travel from rank to rank.
  double move_bytes(const Plan& plan) const;

  // Of the steps since it was last asked; from the first time on.
  Observation take_observation();

  // Tokens routed to [layer][expert] since it was last cleared.
  const std::vector<int64_t>& expert_tokens() const { return expert_tokens_; }
  // From now on every inference step notes where its tokens go: layer, slot, position and top_k
  // experts, for each token and layer.
  void record_routing() { records_routing_ = true; }
  const std::vector<int32_t>& routing() const { return routing_; }
  void clear_expert_tokens() { expert_tokens_.assign(expert_tokens_.size(), 0); }

  // How often a rank has been lost and the world has recovered.
  int recoveries() const { return recoveries_; }
  // Of the last step: memory of each rank's K/V cache, and the most its device has held.
  struct Memory {
    int64_t cache_bytes = 0, peak_bytes = 0;
  };
  const std::vector<Memory>& memory() const { return memory_; }

 private:
  // With every command goes what `beside` sends or receives; it may be empty.
  using Beside = std::function<Task<>(Endpoint&)>;
  void count_tokens(int rank, const Report& report, std::vector<int64_t>& to) const;
  void observe(const Command& command, const std::vector<Report>& reports);
  std::vector<Report> run(const Command& command, const Beside& beside = {});
  std::vector<Report> attempt(Command command, const Beside& beside);
  // As run, but goes on when a rank is lost. For commands that may be given twice.
  std::vector<Report> run_through(const Command& command);
  void recover();
  void take_in();
  void restore();
  void replay(const std::vector<bool>& without_cache);
  Beside weights_for(const ParameterStore& from, const std::vector<int>& ranks);
  Command with_slots(CommandKind kind) const;
  TrainingResult run_training(CommandKind kind, const TrainingBatch& batch,
                              const TrainingStep& step);
  // As run, but StateLost where a rank is lost and the world recovers.
  std::vector<Report> run_or_lose(const Command& command, const Beside& beside = {});
  // Whether experts count the tokens of a sequence in inference, since there may be too many.
  bool drops_tokens() const {
    return model().expert_capacity > 0 && model().expert_capacity < tokens_per_slot_;
  }
  void place(Command& command);
  std::vector<SequenceWork> cached_sequences() const;

  Plan plan_;
  ParameterStore& store_;
  std::unique_ptr<World> world_;
  Recorder recorder_;
  std::vector<Tensor> logits_;  // of the last run, by rank
  std::vector<int64_t> expert_tokens_;
  int64_t slots_ = 0;  // that memory is planned for
  bool records_routing_ = false;
  std::vector<int32_t> routing_;
  int64_t rank_slots_ = 0, tokens_per_slot_ = 0;  // of the ranks' caches
  std::vector<std::vector<int32_t>> history_;     // by slot: tokens that have been run
  std::vector<Memory> memory_;
  bool forgets_spans_ = false;
  Observation observation_;
  bool observes_ = false;
  bool trains_ = false;  // ranks hold what the store does not know of
  std::set<int> empty_;  // ranks whose new seats hold nothing yet
  int recoveries_ = 0;
  std::string failure_;  // set once a rank has failed: the ranks are out of step from then on
};

}  // namespace tandem
