#include "tandem/planner/estimate.h"

#include <algorithm>
#include <cmath>

#include "tandem/cost/operation_cost.h"
#include "tandem/plan/layout.h"
#include "tandem/planner/exchange_time.h"

namespace tandem {
namespace {

// A micro-batch in one layer, on one rank.
struct LayerWork {
  Cost cost;
  double weight_bytes = 0;      // held, of a layer
  double activation_bytes = 0;  // held until the next layer, in training until the backward pass
  double again_bytes = 0;       // of these: computed again rather than held, where that is wanted
  double operations = 0;        // for their overheads
};

class Estimator {
 public:
  Estimator(const ModelConfig& model, const Plan& plan, const Cluster& cluster,
            const Workload& work, DType dtype)
      : model_(model),
        plan_(plan),
        cluster_(cluster),
        work_(work),
        dtype_(dtype),
        bytes_(static_cast<double>(size_of(compute_type(dtype)))),
        weight_bytes_(static_cast<double>(size_of(dtype))),
        passes_(work.kind == WorkKind::train ? 3 : 1),
        ranks_per_copy_(plan.ranks_per_copy()) {
    const double per_copy = static_cast<double>(work.slots()) / plan.copies / work.groups;
    const double homes = plan.homes();
    micro_batches_ =
        std::clamp(std::floor(per_copy / homes), 1.0, static_cast<double>(plan.micro_batches));
    sequences_ = per_copy / micro_batches_;
    const double tokens = static_cast<double>(work.tokens());
    rows_ = tokens / plan.copies / work.groups / micro_batches_;
    least_rows_ =
        work.decodes() ? sequences_ : sequences_ * static_cast<double>(work.shortest_context());
    seen_ = work.attended_tokens() / tokens;
    cached_ = work.cached_tokens() / tokens;
  }

  // Copies that sit on different devices wait for the slowest; alike ones are told by the first.
  Estimate run() {
    double slowest = 0;
    for (copy_ = 0; copy_ < (cluster_.types.size() > 1 ? plan_.copies : 1); ++copy_)
      slowest = std::max(slowest, copy_seconds());
    result_.step_seconds = std::max(slowest * work_.groups, result_.floor_seconds);
    return result_;
  }

 private:
  double copy_seconds() {
    double all_stages = 0, slowest_stage = 0;
    for (const Stage& stage : plan_.stages) {
      const double seconds = stage_seconds(stage);
      all_stages += seconds;
      slowest_stage = std::max(slowest_stage, seconds);
    }
    // Micro-batches follow each other through the stages.
    const double stages = static_cast<double>(plan_.stages.size());
    const double one = all_stages / micro_batches_;
    return stages > 1 ? (one + slowest_stage / micro_batches_ * (micro_batches_ - 1)) : all_stages;
  }

  // Numbers that attention keeps of a token for these heads.
  double cache_width(const Interval& heads) const {
    return static_cast<double>(model_.cache_width(kv_heads_of(model_, heads).size()));
  }
  // Of the projections to queries, keys and values.
  double projection_elements(const Interval& heads) const {
    const double hidden = static_cast<double>(model_.hidden_size);
    const double queries = static_cast<double>(heads.size() * model_.head_dim);
    if (!model_.latent_attention()) return hidden * (queries + cache_width(heads));
    const double query_latent = static_cast<double>(model_.query_latent);
    return (query_latent > 0 ? query_latent * (hidden + queries) : hidden * queries) +
           hidden * static_cast<double>(model_.key_dim()) +
           static_cast<double>(heads.size() * (model_.unrotated_dim + model_.value_dim) *
                               model_.kv_latent);
  }

  // Of a layer with experts, or of one of the first, without.
  LayerWork attention_work(const Stage& stage, int group, int64_t layer) const {
    const AttentionGrid& grid = stage.attention;
    const double hidden = static_cast<double>(model_.hidden_size);
    const Interval heads = grid.head_range(group);
    const double width = static_cast<double>(heads.size() * model_.output_dim());
    const double projections = projection_elements(heads);
    const double score_width =
        static_cast<double>(heads.size() * (model_.key_dim() + model_.attended_dim()));
    const double computed = rows_ / grid.batch_shards / grid.sequence_shards;
    const bool whole_output = stage.exchange == Exchange::heads;
    const double owned =
        stage.exchange == Exchange::replicated ? computed : computed / grid.groups();
    const double output_width =
        whole_output ? static_cast<double>(model_.heads * model_.output_dim()) : width;
    const double output_rows = whole_output ? owned : computed;
    const double router =
        model_.has_experts(layer) ? hidden * static_cast<double>(model_.experts) : 0;
    LayerWork w;
    w.weight_bytes = weight_bytes_ * (projections + hidden * output_width) + bytes_ * router;
    w.cost.flops = 2 * computed * projections + 2 * computed * score_width * seen_ +
                   2 * output_rows * hidden * output_width + 2 * owned * router;
    w.cost.bytes = w.weight_bytes + bytes_ * computed * cache_width(heads) * cached_;
    const double shared = matrices() * hidden * static_cast<double>(model_.shared_hidden_of(layer));
    w.weight_bytes += weight_bytes_ * shared;
    w.cost.flops += 2 * owned * shared;
    w.cost.bytes += weight_bytes_ * shared;
    // The residual stream before, between and behind, in f32, the normed rows, and what comes back
    // from each of a token's experts; what attention computes on.
    const double answers = static_cast<double>(model_.top_k_of(layer)) *
                           (stage.exchange == Exchange::replicated ? 1.0 / grid.groups() : 1);
    w.again_bytes = bytes_ * computed * (hidden + score_width + cache_width(heads));
    if (whole_output && grid.groups() > 1) w.again_bytes += bytes_ * owned * output_width;
    w.activation_bytes = owned * hidden * (3 * 4 + bytes_ * (1 + answers)) + w.again_bytes;
    w.operations = 14;
    return w;
  }

  double matrices() const { return model_.gated_experts ? 3 : 2; }

  // Of the experts, how many so many rows need.
  double hit_share(double rows) const {
    return 1 - std::pow(1 - 1 / static_cast<double>(model_.experts),
                        rows * static_cast<double>(model_.top_k));
  }

  // `held` experts (or shares of some) of a rank; `share` of all pairs come to it.
  LayerWork expert_work(double held, double share) const {
    const double elements = matrices() * static_cast<double>(model_.hidden_size) *
                            static_cast<double>(model_.expert_hidden);
    const double pairs = rows_ * static_cast<double>(model_.top_k);
    LayerWork w;
    w.weight_bytes = weight_bytes_ * held * elements;
    w.cost.flops = 2 * pairs * share * elements;
    w.cost.bytes = w.weight_bytes * hit_share(rows_);
    // Rows that come and go; in training what is between the matrices too.
    w.activation_bytes = 2 * bytes_ * pairs * share * static_cast<double>(model_.hidden_size);
    if (work_.kind == WorkKind::train)
      w.again_bytes =
          (matrices() - 1) * bytes_ * pairs * share * static_cast<double>(model_.expert_hidden);
    w.activation_bytes += w.again_bytes;
    w.operations = 2;
    return w;
  }

  Cost head_cost(const Stage& stage) const {
    const double share = 1 / static_cast<double>(stage.attention.ranks.size());
    const double weights = static_cast<double>(model_.vocab_size * model_.hidden_size) * share;
    const double rows = work_.kind == WorkKind::train ? rows_ : sequences_;
    return {.flops = 2 * rows * weights, .bytes = bytes_ * weights};
  }

  // Of a rank numbered within the copy.
  const DeviceType& type_of(int rank) const {
    return cluster_.type_of(copy_ * ranks_per_copy_ + rank);
  }
  double seconds(int rank, const LayerWork& w) const {
    return operation_seconds(type_of(rank), "", dtype_name(dtype_), w.cost) +
           (w.operations - 1) * type_of(rank).operation_overhead_seconds;
  }

  void keep_floor(double seconds, const DeviceType& type, const Cost& cost, const char* who) {
    if (seconds <= result_.floor_seconds) return;
    result_.floor_seconds = seconds;
    const double computing = cost.flops / peak_flops_per_second(type, dtype_name(dtype_));
    const bool memory = cost.bytes / type.memory_bytes_per_second > computing;
    result_.bound_by = std::string(who) + (memory ? ": memory" : ": compute");
  }

  void keep_memory(double bytes, const DeviceType& type) {
    const double room = type.memory_bytes;
    if (result_.memory_limit_bytes > 0 &&
        bytes / room <= result_.memory_bytes / result_.memory_limit_bytes)
      return;
    result_.memory_bytes = bytes;
    result_.memory_limit_bytes = room;
  }

  // Of a rank's weights, and what training keeps beside them (f32 gradients; moments and master
  // weights are shared out over who holds the same).
  double state_bytes(double weight_bytes, double holders) const {
    if (work_.kind != WorkKind::train) return weight_bytes;
    const double elements = weight_bytes / bytes_;
    return weight_bytes + 4 * elements + (dtype_ == DType::f32 ? 8 : 12) * elements / holders;
  }

  // Of the micro-batches that are in a stage at once; training keeps all.
  double kept_bytes(const LayerWork& w, double layers) const {
    if (layers == 0) return 0;
    const double held = w.activation_bytes - (work_.checkpoint_activations ? w.again_bytes : 0);
    if (work_.kind == WorkKind::train) return micro_batches_ * layers * held;
    const double stages = static_cast<double>(plan_.stages.size());
    return std::max(1.0, micro_batches_ / stages) * w.activation_bytes;
  }

  // All micro-batches through the layers of a stage.
  double stage_seconds(const Stage& stage) {
    const double layers = static_cast<double>(stage.layers.size());
    const double dense =
        static_cast<double>(overlap(stage.layers, {0, model_.dense_layers}).size());
    const double mixed = layers - dense;
    const AttentionGrid& grid = stage.attention;
    double attention = 0, dense_attention = 0, experts = 0;
    std::vector<double> own_memory(static_cast<size_t>(ranks_per_copy_));
    std::vector<Cost> own_cost(own_memory.size());
    for (size_t i = 0; i < grid.ranks.size(); ++i) {
      const int rank = grid.ranks[i];
      const int group = static_cast<int>(i) % grid.groups();
      const LayerWork w = attention_work(stage, group, model_.layers - 1);
      const LayerWork first = attention_work(stage, group, 0);  // dense, if any is
      attention = std::max(attention, seconds(rank, w));
      dense_attention = std::max(dense_attention, seconds(rank, first));
      Cost& cost = own_cost[static_cast<size_t>(rank)];
      cost.flops += passes_ * (mixed * w.cost.flops + dense * first.cost.flops);
      cost.bytes += passes_ * (mixed * w.cost.bytes + dense * first.cost.bytes);
      const Interval heads = grid.head_range(group);
      const double cached = work_.kind == WorkKind::train
                                ? 0
                                : micro_batches_ * sequences_ / grid.batch_shards *
                                      static_cast<double>(work_.longest_context()) * bytes_ *
                                      cache_width(heads);
      const double same = grid.batch_shards * grid.sequence_shards * plan_.copies;
      own_memory[static_cast<size_t>(rank)] += mixed * state_bytes(w.weight_bytes, same) +
                                               dense * state_bytes(first.weight_bytes, same) +
                                               layers * cached + kept_bytes(w, mixed) +
                                               kept_bytes(first, dense);
    }
    const ExpertPlacement& placement = stage.placement(stage.layers.begin);
    std::vector<double> held(own_memory.size()), share(own_memory.size());
    double expert_ranks = 0;
    for (const auto& replicas : placement)
      for (const ExpertReplica& replica : replicas)
        for (const int rank : replica.ranks) {
          const double slice = 1 / static_cast<double>(replica.ranks.size());
          expert_ranks += held[static_cast<size_t>(rank)] == 0;
          held[static_cast<size_t>(rank)] += slice;
          share[static_cast<size_t>(rank)] +=
              slice / static_cast<double>(replicas.size() * placement.size());
        }
    for (size_t rank = 0; rank < held.size(); ++rank) {
      if (held[rank] == 0) continue;
      const LayerWork w = expert_work(held[rank], share[rank]);
      experts = std::max(experts, seconds(static_cast<int>(rank), w));
      // The mean over ranks, a little less: routing is drawn, and some rank has as much. Of the
      // weights, what a micro-batch with the fewest rows reads.
      const LayerWork even = expert_work(held[rank], 1 / expert_ranks);
      constexpr double certain = 0.9;
      own_cost[rank].flops += passes_ * mixed * certain * even.cost.flops;
      own_cost[rank].bytes +=
          passes_ * mixed * certain * even.weight_bytes * hit_share(least_rows_);
      own_memory[rank] +=
          mixed * state_bytes(w.weight_bytes, plan_.copies) + kept_bytes(even, mixed);
    }
    for (size_t rank = 0; rank < own_memory.size(); ++rank) {
      const DeviceType& type = type_of(static_cast<int>(rank));
      if (own_memory[rank] == 0) continue;
      const Cost step{own_cost[rank].flops * micro_batches_ * work_.groups,
                      own_cost[rank].bytes * micro_batches_ * work_.groups};
      const bool both =
          held[rank] > 0 && std::ranges::count(grid.ranks, static_cast<int>(rank)) > 0;
      keep_floor(floor_seconds(type, dtype_name(dtype_), step), type, step,
                 both             ? "all ranks"
                 : held[rank] > 0 ? "expert ranks"
                                  : "attention ranks");
      keep_memory(own_memory[rank], type);
    }
    const double each = mixed * layer_seconds(stage, attention, experts, model_.top_k) +
                        dense * layer_seconds(stage, dense_attention, 0, 0);
    return micro_batches_ * passes_ * each +
           (&stage == &plan_.stages.back() ? micro_batches_ * passes_ * head_seconds(stage) : 0);
  }

  double head_seconds(const Stage& stage) const {
    return operation_seconds(type_of(stage.attention.ranks[0]), "", dtype_name(dtype_),
                             head_cost(stage)) +
           6 * type_of(stage.attention.ranks[0]).operation_overhead_seconds;
  }

  // A micro-batch's share of a layer.
  double layer_seconds(const Stage& stage, double attention, double experts, int64_t top_k) const {
    const AttentionGrid& grid = stage.attention;
    bool shared = false;
    for (const auto& replicas : stage.placement(stage.layers.begin))
      for (const ExpertReplica& replica : replicas)
        shared = shared || std::ranges::count(grid.ranks, replica.ranks[0]) > 0;
    const ExchangeTimes exchanges(cluster_, copy_ * ranks_per_copy_);
    const double row_bytes = rows_ * static_cast<double>(model_.hidden_size) * bytes_;
    double exchange = 0, gather = 0;
    if (stage.exchange == Exchange::replicated) {
      gather = 4 * exchanges.collective_seconds(stage, row_bytes);  // two sums: scattered, gathered
    } else {
      if (ranks_per_copy_ > 1 && top_k > 0)
        exchange = exchanges.all_to_all_seconds(stage, static_cast<double>(top_k) * row_bytes);
      if (grid.groups() > 1)
        gather =
            exchanges.collective_seconds(stage, row_bytes) +
            (stage.exchange == Exchange::sums ? exchanges.collective_seconds(stage, row_bytes)
                                              : exchanges.all_to_all_seconds(stage, row_bytes));
    }
    const double busy = shared ? attention + experts : std::max(attention, experts);
    const double alone = attention + experts + 2 * exchange + gather;
    const double links = (shared ? 2 : 1) * exchange + gather;  // of the busier direction
    return std::max({busy, links, alone / micro_batches_});
  }

  const ModelConfig& model_;
  const Plan& plan_;
  const Cluster& cluster_;
  const Workload& work_;
  DType dtype_;
  double bytes_, weight_bytes_;  // of a number in rows and caches, and in matrices of layers
  double passes_;
  int copy_ = 0, ranks_per_copy_;
  double micro_batches_ = 1, sequences_ = 1, rows_ = 1;  // of a micro-batch, in a copy
  double least_rows_ = 1;         // that every micro-batch has, however they are dealt out
  double seen_ = 0, cached_ = 0;  // keys that a row attends to; of them, read from a cache for it
  Estimate result_;
};

}  // namespace

Estimate estimate(const ModelConfig& model, const Plan& plan, const Cluster& cluster,
                  const Workload& work, DType dtype) {
  return Estimator(model, plan, cluster, work, dtype).run();
}

}  // namespace tandem
