#include "tandem/world/engine.h"

#include <algorithm>
#include <numeric>

namespace tandem {

Engine::Engine(Plan plan, ParameterStore& store, const WorldSettings& settings)
    : Engine(std::move(plan), store, local_world(settings)) {}

Engine::Engine(Plan plan, ParameterStore& store, const MakeWorld& make_world)
    : plan_(std::move(plan)), store_(store), recorder_(-1) {
  validate(plan_, store.config());
  world_ = make_world(plan_, store);
  memory_.resize(plan_.ranks());
  logits_.resize(plan_.ranks());
  expert_tokens_.resize(model().layers * model().experts);
  if (!world_->shares_store())
    for (int rank = 0; rank < plan_.ranks(); ++rank) empty_.insert(rank);
}

Engine::~Engine() = default;

namespace {

Task<> ask(Endpoint& endpoint, Device& device, const Command& command, int ranks,
           std::vector<Report>& reports, std::vector<Tensor>& logits) {
  const Tag tag{.kind = MessageKind::control};
  const std::vector<int32_t> words = to_words(command);
  Message message;
  message.parts[0] = device.upload(words, 1, static_cast<int64_t>(words.size()));
  for (int rank = 0; rank < ranks; ++rank) endpoint.send(rank, tag, message);
  for (int rank = 0; rank < ranks; ++rank) {
    const Message answer = co_await endpoint.receive(rank, tag);
    from_words(device.integers(answer.parts[0]), reports[rank]);
    logits[rank] = answer.parts[1];
  }
}

}  // namespace

std::vector<Report> Engine::run(const Command& command, const Beside& beside) {
  if (!failure_.empty()) throw WorldError("the world has stopped: {}", failure_);
  try {
    return attempt(command, beside);
  } catch (const PeerLost&) {
    throw;
  } catch (const WorldError& error) {
    failure_ = error.what();
    throw;
  }
}

std::vector<Report> Engine::attempt(Command command, const Beside& beside) {
  command.forget_spans = forgets_spans_;
  std::vector<Report> reports(plan_.ranks());
  // Ranks wait for each other for the same time, and tell of it: the controller waits a little
  // more.
  Endpoint endpoint(world_->controller(), recorder_, 2 * world_->timeout_seconds() + 5);
  std::vector<Task<>> tasks;
  tasks.push_back(
      ask(endpoint, world_->controller_device(), command, plan_.ranks(), reports, logits_));
  if (beside) tasks.push_back(beside(endpoint));
  std::string failure;
  bool lost = false;
  try {
    endpoint.run(tasks);
  } catch (const WorldError& error) {
    failure = error.what();
    lost = dynamic_cast<const PeerLost*>(&error) != nullptr;
  }
  recorder_.clear();
  // What failed first is the cause: a rank that is lost to others may have told why.
  for (const Report& report : reports)
    if (report.failed && (failure.empty() || !report.lost_peer)) {
      failure = report.error;
      lost = report.lost_peer;
    }
  if (lost) throw PeerLost(failure);
  if (!failure.empty()) throw WorldError(failure);
  forgets_spans_ = false;
  observe(command, reports);
  for (int rank = 0; rank < plan_.ranks(); ++rank) {
    routing_.insert(routing_.end(), reports[rank].routing.begin(), reports[rank].routing.end());
    count_tokens(rank, reports[rank], expert_tokens_);
    memory_[rank] = {reports[rank].cache_bytes, reports[rank].peak_bytes};
  }
  return reports;
}

// Adds the tokens that a rank has counted, [layer of its stage][expert], to those of all layers.
void Engine::count_tokens(int rank, const Report& report, std::vector<int64_t>& to) const {
  const Stage& stage = plan_.stages[role_of(plan_, rank).stage];
  const int64_t first = stage.layers.begin * model().experts;
  for (size_t i = 0; i < report.expert_tokens.size(); ++i) to[first + i] += report.expert_tokens[i];
}

void Engine::observe(const Command& command, const std::vector<Report>& reports) {
  Observation& seen = observation_;
  const bool counts = observes_ && !command.sequences.empty() &&
                      command.kind != CommandKind::restore_cache &&
                      command.kind != CommandKind::move;
  if (!counts) return;
  ++seen.steps;
  for (const SequenceWork& work : command.sequences) {
    const auto tokens = static_cast<double>(work.tokens.size());
    seen.tokens += tokens;
    seen.contexts += tokens * (work.first_position + (tokens + 1) / 2);
  }
  const auto add = [](const std::vector<float>& seconds, auto& to) {
    to.resize(std::max(to.size(), seconds.size()));
    for (size_t layer = 0; layer < seconds.size(); ++layer)
      to[layer].push_back(double{seconds[layer]});
  };
  seen.attention_seconds.resize(reports.size());
  seen.expert_seconds.resize(reports.size());
  seen.expert_tokens.resize(expert_tokens_.size());
  for (size_t rank = 0; rank < reports.size(); ++rank) {
    add(reports[rank].attention_seconds, seen.attention_seconds[rank]);
    add(reports[rank].expert_seconds, seen.expert_seconds[rank]);
    count_tokens(static_cast<int>(rank), reports[rank], seen.expert_tokens);
  }
}

Observation Engine::take_observation() {
  observes_ = true;
  return std::exchange(observation_, {});
}

Command Engine::with_slots(CommandKind kind) const {
  return {.kind = kind, .slots = rank_slots_, .tokens_per_slot = tokens_per_slot_};
}

void Engine::plan_memory(int64_t slots, int64_t tokens_per_slot) {
  if (tokens_per_slot > model().max_positions)
    throw InputError("{} tokens a sequence: the model has {} positions", tokens_per_slot,
                     model().max_positions);
  rank_slots_ = slots_of_rank(plan_, slots);
  tokens_per_slot_ = tokens_per_slot;
  history_.assign(slots, {});
  run_through(with_slots(CommandKind::plan_memory));
  slots_ = slots;
}

// A slot's copy and home follow from its number; micro-batches share out each home's sequences.
void Engine::place(Command& command) {
  auto& works = command.sequences;
  for (SequenceWork& work : works) {
    const SlotPlace place = place_of_slot(plan_, work.slot);
    work.copy = place.copy;
    work.home = place.home;
  }
  std::ranges::stable_sort(works, {},
                           [](const SequenceWork& w) { return std::pair(w.copy, w.home); });
  for (size_t first = 0; first < works.size();) {
    size_t end = first;
    while (end < works.size() && works[end].copy == works[first].copy &&
           works[end].home == works[first].home)
      ++end;
    const auto count = static_cast<int64_t>(end - first);
    for (int m = 0; m < plan_.micro_batches; ++m) {
      const Interval members = part(count, plan_.micro_batches, m);
      for (int64_t i = members.begin; i < members.end; ++i) works[first + i].micro_batch = m;
    }
    first = end;
  }
}

Sampled Engine::infer(std::span<const SequenceTokens> sequences, bool want_logits) {
  Command command{
      .kind = CommandKind::infer, .want_logits = want_logits, .record_routing = records_routing_};
  for (const SequenceTokens& sequence : sequences) {
    if (sequence.slot < 0 || sequence.slot >= slots_)
      throw InputError("slot {}: memory is planned for slots 0 to {}", sequence.slot, slots_ - 1);
    for (const int32_t token : sequence.tokens)
      if (token < 0 || token >= model().vocab_size)
        throw InputError("token {}: the vocabulary has {} entries", token, model().vocab_size);
    command.sequences.push_back({.slot = sequence.slot,
                                 .first_position = sequence.first_position,
                                 .sample = sequence.sample,
                                 .sampling = sequence.sampling,
                                 .tokens = sequence.tokens});
  }
  place(command);
  const std::vector<Report> reports = run_through(command);
  for (const SequenceTokens& sequence : sequences) {
    auto& history = history_[sequence.slot];
    history.resize(sequence.first_position);
    history.insert(history.end(), sequence.tokens.begin(), sequence.tokens.end());
  }

  Sampled result;
  std::vector<std::pair<int, int64_t>> found;  // rank and row of each sampled sequence
  for (const SequenceTokens& sequence : sequences) {
    if (!sequence.sample) continue;
    for (int rank = 0; rank < std::ssize(reports); ++rank) {
      const auto at = std::ranges::find(reports[rank].slots, sequence.slot);
      if (at == reports[rank].slots.end()) continue;
      found.emplace_back(rank, at - reports[rank].slots.begin());
      result.tokens.push_back(reports[rank].tokens[found.back().second]);
    }
  }
  if (!want_logits) return result;
  Device& device = world_->controller_device();
  result.logits =
      device.allocate(static_cast<int64_t>(found.size()), model().vocab_size, DType::f32);
  for (int64_t i = 0; i < result.logits.rows; ++i) {
    const auto [rank, row] = found[i];
    device.execute(CopyRows{.from = logits_[rank].slice_rows({row, row + 1}),
                            .to = result.logits.slice_rows({i, i + 1})});
  }
  return result;
}

void Engine::release(std::span<const int32_t> slots) {
  Command command{.kind = CommandKind::release};
  command.released.assign(slots.begin(), slots.end());
  run_through(command);
  for (const int32_t slot : slots) history_[slot].clear();
}

TrainingResult Engine::train(const TrainingBatch& batch, const TrainingStep& step) {
  return run_training(CommandKind::train, batch, step);
}
TrainingResult Engine::gradients(const TrainingBatch& batch, const TrainingStep& step) {
  return run_training(CommandKind::gradients, batch, step);
}
TrainingResult Engine::evaluate(const TrainingBatch& batch) {
  return run_training(CommandKind::evaluate, batch, {});
}

TrainingResult Engine::run_training(CommandKind kind, const TrainingBatch& batch,
                                    const TrainingStep& step) {
  if (batch.sequence_tokens > model().max_positions)
    throw InputError("sequence length {}: the model has {} positions", batch.sequence_tokens,
                     model().max_positions);
  Command command{.kind = kind, .record_routing = records_routing_, .training = step};
  // The balance loss of the whole batch has to know the whole batch before the first backward pass.
  if (model().balance_loss > 0 && !model().balance_per_sequence) command.training.groups = 1;
  const int copies = plan_.copies, homes = plan_.homes(), groups = command.training.groups;
  for (int c = 0; c < copies; ++c)
    for (int g = 0; g < groups; ++g)
      for (int m = 0; m < plan_.micro_batches; ++m)
        for (int h = 0; h < homes; ++h) {
          const Interval copy = part(batch.sequences, copies, c);
          const Interval micro_batch = part(part(copy, groups, g), plan_.micro_batches, m);
          const Interval home = part(micro_batch, homes, h);
          for (int64_t s = home.begin; s < home.end; ++s) {
            const auto slice = [&](const auto& all) {
              return std::span(all).subspan(s * batch.sequence_tokens, batch.sequence_tokens);
            };
            command.sequences.push_back({.slot = static_cast<int32_t>(s),
                                         .copy = c,
                                         .home = h,
                                         .micro_batch = m,
                                         .group = g,
                                         .tokens = slice(batch.inputs),
                                         .targets = slice(batch.targets),
                                         .weights = slice(batch.weights)});
          }
        }
  trains_ = trains_ || kind != CommandKind::evaluate;
  TrainingResult result;
  double weight = 0;
  for (const Report& report : run_or_lose(command)) {
    result.loss += report.loss_sum;
    weight += report.token_weight;
    result.balance_loss += report.balance_loss;
    result.z_loss += report.z_loss;
    result.gradient_norm = std::max(result.gradient_norm, report.gradient_norm);
  }
  if (weight > 0) result.loss /= weight;
  return result;
}

std::vector<RankSpans> Engine::spans() {
  std::vector<RankSpans> all;
  for (int rank = 0; rank < plan_.ranks(); ++rank) {
    const Role role = role_of(plan_, rank);
    all.push_back({.rank = rank, .attention = role.attention, .expert = role.expert});
    if (!forgets_spans_) all.back().spans = world_->spans(rank);
  }
  return all;
}

}  // namespace tandem
