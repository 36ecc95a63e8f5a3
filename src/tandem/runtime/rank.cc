#include "tandem/runtime/rank.h"

#include <algorithm>

#include "tandem/model/rotary.h"
#include "tandem/runtime/optimizer.h"
#include "tandem/runtime/steps.h"

namespace tandem {

Rank::Rank(std::shared_ptr<const Plan> plan_, int number, ParameterStore& store_, Device& device_,
           Transport& transport, Recorder& recorder_, const Settings& settings_, const Rank* before)
    : shared_plan(std::move(plan_)),
      plan(*shared_plan),
      model(store_.config()),
      role(role_of(plan, number)),
      settings(settings_),
      store(store_),
      device(device_),
      recorder(recorder_),
      endpoint(transport, recorder_, settings_.timeout_seconds),
      transport_(transport) {
  const std::vector<Region> held = holdings(plan, model, number);
  weights = arrange(held, model, stage().layers, last_stage(),
                    [&](const Region& region) { return store.region(region); });
  if (settings.trainable) {
    gradients = arrange(held, model, stage().layers, last_stage(), [&](const Region& region) {
      Tensor t = device.allocate(region.rows.size(), region.cols.size(), DType::f32);
      gradient_regions.emplace_back(region, t);
      return t;
    });
    optimizer = std::make_unique<Optimizer>(*this);
  }
  find_groups();
  if (role.attention && model.positions == PositionType::rotary) make_rotation(before);
  expert_tokens.resize(stage().layers.size() * model.experts);
}

Rank::~Rank() = default;

void Rank::find_groups() {
  const Stage& own = stage();
  const AttentionGrid& grid = own.attention;
  if (role.attention) {
    const AttentionPlace& place = role.place;
    for (int g = 0; g < grid.groups(); ++g) {
      head_team_.ranks.push_back(global_rank(grid.rank(place.batch, place.sequence, g)));
      const Interval heads = grid.head_range(g);
      head_features.push_back({heads.begin * model.output_dim(), heads.end * model.output_dim()});
    }
    for (int s = 0; s < grid.sequence_shards; ++s) {
      sequence_team_.ranks.push_back(global_rank(grid.rank(place.batch, s, place.group)));
      for (int g = 0; g < grid.groups(); ++g)
        shard_team_.ranks.push_back(global_rank(grid.rank(place.batch, s, g)));
    }
    for (const int rank : grid.ranks) grid_team_.ranks.push_back(global_rank(rank));
    for (Team* team : {&head_team_, &sequence_team_, &shard_team_, &grid_team_})
      team->order = members_by_node(team->ranks, settings.nodes);
    const Interval heads = grid.head_range(place.group);
    const int64_t share = model.heads / model.kv_heads;
    for (int64_t head = heads.begin; head < heads.end; ++head) {
      query_head.push_back(static_cast<int32_t>(head - heads.begin));
      kv_head.push_back(static_cast<int32_t>(head / share - heads.begin / share));
    }
    const int64_t kv_heads = kv_heads_of(model, heads).size();
    cache_width = model.cache_width(kv_heads);
    key_columns = {0, kv_heads * model.key_dim()};
    value_columns = {cache_width - kv_heads * model.attended_dim(), cache_width};
    if (model.latent_attention()) value_columns = {0, model.kv_latent};
  }
  const int ranks = plan.ranks_per_copy();
  expert_index.assign(ranks, -1);
  for (int local = 0; local < ranks; ++local) {
    const Role other = role_of(plan, local);
    if (other.stage != role.stage || !other.expert) continue;
    expert_index[local] = static_cast<int>(expert_ranks.size());
    expert_ranks.push_back(global_rank(local));
  }
}

// The same for every rank.
void Rank::make_rotation(const Rank* before) {
  if (before && before->rotation) {
    rotation = before->rotation;
    return;
  }
  rotation = device.allocate(model.max_positions, model.rotated_dim(), DType::f32);
  const RotaryFrequencies frequencies = rotary_frequencies(model);
  device.execute(
      RotationTable{.table = rotation, .radians = frequencies.radians, .scale = frequencies.scale});
}

Dropout Rank::dropout(RandomStream stream, double probability, int64_t layer,
                      std::span<const uint64_t> keys) const {
  if (!masks || probability <= 0) return {};
  return {.probability = static_cast<float>(probability),
          .seed = command.training.seed,
          .stream = stream,
          .step = static_cast<uint32_t>(command.training.step),
          .layer = static_cast<uint32_t>(layer),
          .keys = keys};
}

// An error of the world or of the user's is reported; the rank is then out of step with the others
// and answers nothing more.
Task<> Rank::serve() {
  const Tag tag{.kind = MessageKind::control};
  std::ranges::fill(expert_tokens, 0);  // of a step that was given up
  successor.reset();
  for (;;) {
    const Message message = co_await endpoint.receive_any_time(plan.ranks(), tag);
    from_words(device.integers(message.parts[0]), command);
    report.clear();
    reported_logits.clear();
    if (command.forget_spans) recorder.clear();
    try {
      co_await obey();
    } catch (const EpochOver&) {
      throw;
    } catch (const std::runtime_error& error) {
      report.failed = 1;
      report.lost_peer = dynamic_cast<const PeerLost*>(&error) != nullptr;
      report.error = error.what();
    }
    answer();
    if (report.failed || successor) co_return;
  }
}

void Rank::make_cache() {
  capacity_used.clear();
  cache = std::make_unique<KvCache>(device, stage().layers.size(), cache_width, dtype(), slots_,
                                    tokens_per_slot_);
}

void Rank::answer() {
  report.cache_bytes = cache ? cache->bytes() : 0;
  report.peak_bytes = device.peak_allocated_bytes();
  report.expert_tokens.assign(expert_tokens.begin(), expert_tokens.end());
  std::ranges::fill(expert_tokens, 0);
  const auto attention = recorder.busy_seconds(Lane::attention);
  const auto experts = recorder.busy_seconds(Lane::expert);
  report.attention_seconds.assign(attention.begin(), attention.end());
  report.expert_seconds.assign(experts.begin(), experts.end());
  recorder.forget_busy();
  Message message;
  to_words(report, words_);
  message.parts[0] = device.upload(words_, 1, static_cast<int64_t>(words_.size()));
  if (!reported_logits.empty()) {
    const auto rows = static_cast<int64_t>(report.tokens.size());
    message.parts[1] = device.allocate(rows, model.vocab_size, DType::f32);
    int64_t row = 0;
    for (const Tensor& logits : reported_logits) {
      device.execute(
          CopyRows{.from = logits, .to = message.parts[1].slice_rows({row, row + logits.rows})});
      row += logits.rows;
    }
  }
  endpoint.send(plan.ranks(), {.kind = MessageKind::control}, std::move(message));
}

Task<> Rank::obey() {
  cached = command.kind == CommandKind::infer;
  switch (command.kind) {
    case CommandKind::plan_memory:
      plan_cache(command.slots, command.tokens_per_slot);
      if (role.attention) make_cache();
      break;
    case CommandKind::infer:
      co_await infer(*this);
      break;
    case CommandKind::release:
      if (cache)
        for (const int32_t slot : command.released) cache->release(slot);
      break;
    case CommandKind::train:
    case CommandKind::evaluate:
    case CommandKind::gradients:
      co_await train(*this);
      break;
    case CommandKind::take_weights:
      co_await take_weights(*this);
      break;
    case CommandKind::take_optimizer:
      co_await take_optimizer(*this);
      break;
    case CommandKind::give_pieces:
      co_await give_pieces(*this);
      break;
    case CommandKind::restore_cache:
      plan_cache(command.slots, command.tokens_per_slot);
      co_await restore_cache(*this);
      break;
    case CommandKind::move:
      co_await move_to_plan(*this);
      break;
  }
}

}  // namespace tandem
