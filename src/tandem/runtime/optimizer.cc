#include "tandem/runtime/optimizer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "tandem/runtime/steps.h"

namespace tandem {
namespace {

Region updated_piece(const Shard& shard, int holder, bool shard_optimizer) {
  if (shard_optimizer) return shard_piece(shard, holder);
  Region whole = shard.region;
  if (holder > 0) whole.rows.end = whole.rows.begin;
  return whole;
}

int holder_index(const Shard& shard, int rank) {
  const auto found = std::ranges::lower_bound(shard.holders, rank);
  return found == shard.holders.end() || *found != rank
             ? -1
             : static_cast<int>(found - shard.holders.begin());
}

Tensor zeros(const Track& on, int64_t rows, int64_t cols) {
  Tensor t = on.allocate(rows, cols, DType::f32);
  on.run(Zero{.x = t});
  return t;
}

// body(rank, region) for all that some rank updates, each rank's in the order of its pieces.
template <class Body>
void for_each_update(const Plan& plan, const ModelConfig& model, bool shard_optimizer,
                     const Body& body) {
  for (const Shard& shard : shards(plan, model))
    for (int i = 0; i < std::ssize(shard.holders); ++i) {
      const Region piece = updated_piece(shard, i, shard_optimizer);
      if (piece.elements() > 0) body(shard.holders[i], piece);
    }
}

}  // namespace

std::vector<std::vector<Region>> updated_regions(const Plan& plan, const ModelConfig& model,
                                                 bool shard_optimizer) {
  std::vector<std::vector<Region>> regions(plan.ranks());
  for_each_update(plan, model, shard_optimizer,
                  [&](int rank, const Region& piece) { regions[rank].push_back(piece); });
  return regions;
}

std::vector<int64_t> updated_elements(const Plan& plan, const ModelConfig& model,
                                      bool shard_optimizer) {
  std::vector<int64_t> elements(plan.ranks());
  for_each_update(plan, model, shard_optimizer,
                  [&](int rank, const Region& piece) { elements[rank] += piece.elements(); });
  return elements;
}

Optimizer::Optimizer(Rank& rank) : rank_(rank), track_(own_track(rank)) {
  if (rank.settings.shards)
    for (const Shard& shard : *rank.settings.shards) add_shard(shard);
  else
    for (const Shard& shard : shards(rank.plan, rank.model)) add_shard(shard);
}

void Optimizer::add_shard(const Shard& shard) {
  const int me = holder_index(shard, rank_.endpoint.self());
  if (me < 0) return;
  const Region region = piece_of(shard, me);
  int index = -1;
  if (region.elements() > 0) {
    Piece piece{.region = region,
                .gradient = gradient_of(region),
                .weight = rank_.store.region(region),
                .first_moment = zeros(track_, region.rows.size(), region.cols.size()),
                .second_moment = zeros(track_, region.rows.size(), region.cols.size())};
    piece.master = as_type(track_, piece.weight, DType::f32);
    index = static_cast<int>(pieces_.size());
    pieces_.push_back(std::move(piece));
  }
  if (shard.holders.size() > 1) shared_.push_back({shard, me, index, {}});
}

Tensor part_of(const Tensor& numbers, const Region& all, const Region& part) {
  return numbers.slice_rows(part.rows.shifted(-all.rows.begin))
      .slice_cols(part.cols.shifted(-all.cols.begin));
}

Region Optimizer::piece_of(const Shard& shard, int holder) const {
  return updated_piece(shard, holder, rank_.settings.shard_optimizer);
}

Tensor Optimizer::gradient_of(const Region& region) const {
  for (const auto& [held, tensor] : rank_.gradient_regions)
    if (held.contains(region)) return part_of(tensor, held, region);
  TANDEM_CHECK(false, "no gradient for a region of parameter kind {}",
               static_cast<int>(region.id.kind));
}

const Tensor& Optimizer::Piece::state(PieceState which) const {
  switch (which) {
    case PieceState::weight:
      return weight;
    case PieceState::gradient:
      return gradient;
    case PieceState::first_moment:
      return first_moment;
    case PieceState::second_moment:
      return second_moment;
    case PieceState::master:
      break;
  }
  return master;
}

void Optimizer::begin_anew() {
  for (const Piece& piece : pieces_) {
    track_.run(Zero{.x = piece.first_moment});
    track_.run(Zero{.x = piece.second_moment});
    track_.run(CopyRows{.from = piece.weight, .to = piece.master});
  }
  for (Shared& shared : shared_) shared.residuals.clear();
}

void Optimizer::zero_gradients() {
  for (const auto& [region, tensor] : rank_.gradient_regions) track_.run(Zero{.x = tensor});
}

// What this rank adds to the piece of a holder.
Tensor Optimizer::encoded(Shared& shared, int holder) {
  Tensor gradient = gradient_of(piece_of(shared.shard, holder));
  const GradientCoding coding = rank_.command.training.coding;
  if (coding == GradientCoding::plain) return gradient;
  shared.residuals.resize(shared.shard.holders.size());
  Tensor& residual = shared.residuals[holder];
  if (!residual) residual = zeros(track_, gradient.rows, gradient.cols);
  Tensor out = track_.allocate(gradient.rows, coded_row_words(coding, gradient.cols), DType::i32);
  track_.run(EncodeGradient{gradient, residual, out, coding});
  return out;
}

Tensor Optimizer::decoded(const Tensor& message, const Tensor& like) const {
  const GradientCoding coding = rank_.command.training.coding;
  if (coding == GradientCoding::plain) return message;
  Tensor out = track_.allocate(like.rows, like.cols, DType::f32);
  track_.run(DecodeGradient{message, out, coding});
  return out;
}

// Shards come in the same order on every rank, so messages between two ranks do too.
Task<> Optimizer::sum_gradients() {
  const Tag tag = tag_of(track_, MessageKind::gradient);
  for (Shared& shared : shared_)
    for (int i = 0; i < static_cast<int>(shared.shard.holders.size()); ++i) {
      if (i == shared.me || piece_of(shared.shard, i).elements() == 0) continue;
      Message message;
      message.parts[0] = encoded(shared, i);
      rank_.endpoint.send(shared.shard.holders[i], tag, std::move(message));
    }
  std::vector<Tensor> addends;
  for (const Shared& shared : shared_) {
    if (shared.piece < 0) continue;
    const Tensor mine = pieces_[shared.piece].gradient;
    addends.assign(shared.shard.holders.size(), mine);
    for (int i = 0; i < static_cast<int>(addends.size()); ++i) {
      if (i == shared.me) continue;
      Message message = co_await rank_.endpoint.receive(shared.shard.holders[i], tag);
      addends[i] = decoded(message.parts[0], mine);
    }
    track_.run(Sum{.inputs = addends, .out = mine});
  }
}

// Rank 0 adds up in the order of ranks and tells everyone.
Task<> Optimizer::sum_norm(double own) {
  const Tag tag = tag_of(track_, MessageKind::gradient, 2);
  Endpoint& endpoint = rank_.endpoint;
  Message message;
  const auto value = static_cast<float>(own);
  message.parts[0] = rank_.device.upload(std::span(&value, 1), 1, 1);
  if (endpoint.self() != 0) {
    endpoint.send(0, tag, std::move(message));
    message = co_await endpoint.receive(0, tag);
  } else {
    double sum = own;
    for (int r = 1; r < rank_.plan.ranks(); ++r) {
      const Message part = co_await endpoint.receive(r, tag);
      sum += rank_.device.floats(part.parts[0])[0];
    }
    const auto total = static_cast<float>(sum);
    message.parts[0] = rank_.device.upload(std::span(&total, 1), 1, 1);
    for (int r = 1; r < rank_.plan.ranks(); ++r) endpoint.send(r, tag, message);
  }
  rank_.report.gradient_norm = std::sqrt(double{rank_.device.floats(message.parts[0])[0]});
}

Task<> Optimizer::reduce() {
  co_await sum_gradients();
  double squares = 0;
  const Tensor out = track_.allocate(1, 1, DType::f32);
  for (const Piece& piece : pieces_) {
    track_.run(SquaredSum{.x = piece.gradient, .out = out});
    squares += rank_.device.floats(out)[0];
  }
  co_await sum_norm(squares);
}

Task<> Optimizer::step() {
  const TrainingStep& t = rank_.command.training;
  const double norm = rank_.report.gradient_norm;
  if (!std::isfinite(norm)) co_return;  // the controller stops the run; weights stay as they were
  const double scale = t.clip_norm > 0 && norm > t.clip_norm ? t.clip_norm / norm : 1;
  for (Piece& piece : pieces_) {
    const ParameterKind kind = piece.region.id.kind;
    if (kind == ParameterKind::router_bias) adjust_router_bias(piece);
    track_.run(AdamW{.weight = piece.weight,
                     .master = piece.master,
                     .first_moment = piece.first_moment,
                     .second_moment = piece.second_moment,
                     .gradient = piece.gradient,
                     .learning_rate = t.learning_rate,
                     .beta1 = t.beta1,
                     .beta2 = t.beta2,
                     .epsilon = t.epsilon,
                     .weight_decay = Parameter{{kind}, {}, 1, 1}.is_vector() ? 0 : t.weight_decay,
                     .gradient_scale = static_cast<float>(scale),
                     .step = t.step});
  }
  co_await spread_weights();
}

// Its gradient is zero: AdamW only carries the new bias from the master over to the weight.
void Optimizer::adjust_router_bias(const Piece& piece) {
  const Interval& experts = piece.region.cols;
  const int64_t layer = piece.region.id.layer - rank_.stage().layers.begin;
  const auto counts =
      std::span(rank_.batch_counts).subspan(layer * rank_.model.experts, rank_.model.experts);
  const double mean =
      std::accumulate(counts.begin(), counts.end(), 0.0) / static_cast<double>(rank_.model.experts);
  std::vector<float> steps;
  for (int64_t expert = experts.begin; expert < experts.end; ++expert) {
    const double missing = mean - static_cast<double>(counts[expert]);
    steps.push_back(static_cast<float>(rank_.model.router_bias_rate) *
                    static_cast<float>((missing > 0) - (missing < 0)));
  }
  const Tensor step = rank_.device.upload(steps, 1, experts.size());
  const std::array<Tensor, 2> addends{piece.master, step};
  track_.run(Sum{.inputs = addends, .out = piece.master});
}

// Where ranks are threads of the local world the holders' weights are the same memory, and copying
// them onto themselves is free.
Task<> Optimizer::spread_weights() {
  const Tag tag = tag_of(track_, MessageKind::gradient, 3);
  for (const Shared& shared : shared_)
    if (shared.piece >= 0)
      for (int i = 0; i < static_cast<int>(shared.shard.holders.size()); ++i) {
        if (i == shared.me) continue;
        Message message;
        message.parts[0] = pieces_[shared.piece].weight;
        rank_.endpoint.send(shared.shard.holders[i], tag, std::move(message));
      }
  for (const Shared& shared : shared_)
    for (int i = 0; i < static_cast<int>(shared.shard.holders.size()); ++i) {
      const Region piece = piece_of(shared.shard, i);
      if (i == shared.me || piece.elements() == 0) continue;
      const Message message = co_await rank_.endpoint.receive(shared.shard.holders[i], tag);
      track_.run(CopyRows{.from = message.parts[0], .to = rank_.store.region(piece)});
    }
}

int64_t Optimizer::bytes() const {
  int64_t total = 0;
  for (const Piece& piece : pieces_) {
    total += piece.first_moment.bytes() + piece.second_moment.bytes();
    if (piece.master.storage.get() != piece.weight.storage.get()) total += piece.master.bytes();
  }
  return total;
}

}  // namespace tandem
