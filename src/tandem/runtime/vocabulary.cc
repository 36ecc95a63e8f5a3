#include <algorithm>

#include "tandem/runtime/steps.h"

namespace tandem {
namespace {

Interval vocabulary_of(const Rank& rank, const Stage& stage, int index) {
  return part(rank.model.vocab_size, static_cast<int64_t>(stage.attention.ranks.size()), index);
}

// Rows of `rows` whose token is in `vocabulary`: the rows counted from `rows.begin`, and the tokens
// counted from `vocabulary.begin`.
struct Lookup {
  explicit Lookup(Rank& rank) : rows(&rank.frames()), tokens(&rank.frames()) {}
  void find(const MicroBatch& batch, const Interval& among, const Interval& vocabulary) {
    rows.clear(), tokens.clear();
    for (int64_t row = among.begin; row < among.end; ++row)
      if (vocabulary.contains(batch.tokens[row])) {
        rows.push_back(static_cast<int32_t>(row - among.begin));
        tokens.push_back(static_cast<int32_t>(batch.tokens[row] - vocabulary.begin));
      }
  }
  Array<int32_t> rows, tokens;
};

// Sampled rows that each rank of the grid is responsible for, as intervals of the list of them.
Array<Interval> sampled_parts(Rank& rank, const Pass& pass) {
  const Stage& stage = rank.stage();
  const auto& sampled = pass.batch.sampled_rows;
  Array<Interval> parts(&rank.frames());
  for (int i = 0; i < static_cast<int>(stage.attention.ranks.size()); ++i) {
    const Interval rows = responsible_rows(stage, place_of(stage.attention, i), pass.batch);
    const auto at = [&](int64_t row) {
      return std::ranges::lower_bound(sampled, row) - sampled.begin();
    };
    parts.push_back({at(rows.begin), at(rows.end)});
  }
  return parts;
}

}  // namespace

// Each rank looks up the tokens of its slice of the vocabulary for whoever holds their rows.
Task<Tensor> embed(Rank& rank, Pass& pass, Track& on) {
  const AttentionGrid& grid = rank.stage().attention;
  const int ranks = static_cast<int>(grid.ranks.size()), me = rank.role.place.index;
  const Tag tag = tag_of(on, MessageKind::vocabulary);
  const Interval own = vocabulary_of(rank, rank.stage(), me);
  Lookup lookup(rank);
  for (int i = 0; i < ranks; ++i) {
    if (i == me) continue;
    lookup.find(pass.batch, owned_rows(rank.stage(), place_of(grid, i), pass.batch), own);
    if (lookup.rows.empty()) continue;
    Message message;
    message.parts[0] =
        on.allocate(static_cast<int64_t>(lookup.rows.size()), rank.model.hidden_size, rank.dtype());
    on.run(CopyRows{
        .from = rank.weights.embedding, .to = message.parts[0], .from_rows = lookup.tokens});
    rank.endpoint.send(rank.global_rank(grid.ranks[i]), tag, std::move(message));
  }
  Tensor x = on.allocate(pass.rows.owned.size(), rank.model.hidden_size, DType::f32);
  for (int i = 0; i < ranks; ++i) {
    lookup.find(pass.batch, pass.rows.owned, vocabulary_of(rank, rank.stage(), i));
    if (lookup.rows.empty()) continue;
    if (i == me) {
      on.run(CopyRows{.from = rank.weights.embedding,
                      .to = x,
                      .from_rows = lookup.tokens,
                      .to_rows = lookup.rows});
    } else {
      const Message message = co_await rank.endpoint.receive(rank.global_rank(grid.ranks[i]), tag);
      on.run(CopyRows{.from = message.parts[0], .to = x, .to_rows = lookup.rows});
    }
  }
  if (rank.weights.position && !x.empty())
    on.run(AddRows{
        .from = rank.weights.position,
        .to = x,
        .from_rows = std::span(pass.batch.positions).subspan(pass.rows.owned.begin, x.rows)});
  co_return x;
}

Task<> embed_backward(Rank& rank, Pass& pass, Track& on, Tensor dx) {
  const AttentionGrid& grid = rank.stage().attention;
  const int ranks = static_cast<int>(grid.ranks.size()), me = rank.role.place.index;
  const Tag tag = tag_of(on, MessageKind::vocabulary);
  const Tensor mine = dx.slice_rows(pass.rows.mine.shifted(-pass.rows.owned.begin));
  Lookup lookup(rank);
  for (int i = 0; i < ranks; ++i) {
    if (i == me) continue;
    lookup.find(pass.batch, pass.rows.mine, vocabulary_of(rank, rank.stage(), i));
    if (lookup.rows.empty()) continue;
    Message message;
    message.parts[0] = on.allocate(static_cast<int64_t>(lookup.rows.size()), mine.cols, DType::f32);
    on.run(CopyRows{.from = mine, .to = message.parts[0], .from_rows = lookup.rows});
    rank.endpoint.send(rank.global_rank(grid.ranks[i]), tag, std::move(message));
  }
  co_await rank.vocabulary_gate->wait(rank.embedding_turn(pass));
  const Interval own = vocabulary_of(rank, rank.stage(), me);
  for (int i = 0; i < ranks; ++i) {
    lookup.find(pass.batch, responsible_rows(rank.stage(), place_of(grid, i), pass.batch), own);
    if (lookup.rows.empty()) continue;
    if (i == me) {
      on.run(AddRows{.from = mine,
                     .to = rank.gradients.embedding,
                     .from_rows = lookup.rows,
                     .to_rows = lookup.tokens});
    } else {
      const Message message = co_await rank.endpoint.receive(rank.global_rank(grid.ranks[i]), tag);
      on.run(AddRows{
          .from = message.parts[0], .to = rank.gradients.embedding, .to_rows = lookup.tokens});
    }
  }
  if (rank.gradients.position && !mine.empty())
    on.run(AddRows{
        .from = mine,
        .to = rank.gradients.position,
        .to_rows = std::span(pass.batch.positions).subspan(pass.rows.mine.begin, mine.rows)});
  rank.vocabulary_gate->pass();
}

Task<> sample(Rank& rank, Pass& pass, Track& on) {
  const auto& sampled = pass.batch.sampled_rows;
  if (sampled.empty()) co_return;
  const Array<Interval> parts = sampled_parts(rank, pass);
  const Interval mine = parts[rank.role.place.index];
  Array<int32_t> rows(&rank.frames());
  for (int64_t i = mine.begin; i < mine.end; ++i)
    rows.push_back(static_cast<int32_t>(sampled[i] - pass.rows.owned.begin));
  Tensor x = on.allocate(mine.size(), pass.x.cols, DType::f32);
  if (!rows.empty()) on.run(CopyRows{.from = pass.x, .to = x, .from_rows = rows});
  Tensor statistics;
  Tensor h = normed(rank, on, x, rank.weights.final_norm, rank.weights.final_norm_bias, statistics);
  const Tag gather_tag = tag_of(on, MessageKind::vocabulary, 1);
  Tensor all = co_await gather_rows(rank.endpoint, on, rank.grid_group(), gather_tag, parts, h);
  Tensor slice = linear(on, all, rank.weights.head, {}, DType::f32);
  Array<Interval> columns(&rank.frames());
  for (int i = 0; i < rank.grid_group().size(); ++i)
    columns.push_back(vocabulary_of(rank, rank.stage(), i));
  const Tag logits_tag = tag_of(on, MessageKind::vocabulary, 2);
  Tensor logits = co_await columns_to_rows(rank.endpoint, on, rank.grid_group(), logits_tag, parts,
                                           columns, slice);
  if (mine.empty()) co_return;

  Array<Sampling> sampling(&rank.frames());
  for (const BatchSequence& sequence : pass.batch.sequences)
    if (sequence.work->sample && pass.rows.mine.contains(sequence.rows.end - 1))
      sampling.push_back(sequence.work->sampling);
  const Tensor tokens = on.allocate(mine.size(), 1, DType::i32);
  on.run(Sample{.slices = {&logits, 1}, .rows = sampling, .tokens = tokens});
  const auto drawn = rank.device.integers(tokens);
  rank.report.tokens.insert(rank.report.tokens.end(), drawn.begin(), drawn.end());
  for (const BatchSequence& sequence : pass.batch.sequences)
    if (sequence.work->sample && pass.rows.mine.contains(sequence.rows.end - 1))
      rank.report.slots.push_back(sequence.slot);
  if (rank.command.want_logits) rank.reported_logits.push_back(logits);
}

}  // namespace tandem
