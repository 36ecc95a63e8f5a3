#include "tandem/plan/shorthand.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <map>
#include <set>

#include "tandem/base/error.h"
#include "tandem/plan/plan_file.h"

namespace tandem {
namespace {

// key=value pairs behind the colon; every key must be one of those the strategy takes.
class Options {
 public:
  Options(const std::string& text, const std::set<std::string>& known) : text_(text) {
    const size_t colon = text.find(':');
    name_ = text.substr(0, colon);
    for (size_t at = colon; at < text.size();) {
      const size_t end = std::min(text.find(',', at + 1), text.size());
      add(text.substr(at + 1, end - at - 1), known);
      at = end;
    }
  }

  int number(const std::string& key, int otherwise, int least = 1) const {
    const auto found = values_.find(key);
    if (found == values_.end()) return otherwise;
    const std::string& value = found->second;
    int number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (error != std::errc() || end != value.data() + value.size())
      throw InputError("plan '{}': {}={} is not a number", text_, key, value);
    if (number < least || number > 4096)
      throw InputError("plan '{}': {}={} must be {} to 4096", text_, key, number, least);
    return number;
  }

  Exchange exchange(Exchange otherwise) const {
    const auto found = values_.find("exchange");
    return found == values_.end() ? otherwise
                                  : parse_exchange(found->second, "plan '" + text_ + "'");
  }

 private:
  void add(const std::string& pair, const std::set<std::string>& known) {
    const size_t equals = pair.find('=');
    const std::string key = pair.substr(0, equals);
    if (equals == std::string::npos)
      throw InputError("plan '{}': '{}' is not key=value", text_, pair);
    if (!known.contains(key))
      throw InputError("plan '{}': '{}' is not an option of {} (known: {})", text_, key, name_,
                       fmt::join(known, ", "));
    if (!values_.emplace(key, pair.substr(equals + 1)).second)
      throw InputError("plan '{}': {} is given twice", text_, key);
  }

  std::string text_, name_;
  std::map<std::string, std::string> values_;
};

const std::map<std::string, std::set<std::string>>& strategies() {
  static const std::map<std::string, std::set<std::string>> known = [] {
    std::map<std::string, std::set<std::string>> table = {
        {"single", {}},
        {"tp", {"ranks", "split"}},
        {"pp", {"stages"}},
        {"tp-pp", {"ranks", "stages", "split"}},
        {"ep", {"ranks", "sequence", "batch", "stages", "replicas", "split"}},
        {"ma",
         {"attention", "experts", "sequence", "batch", "stages", "replicas", "split", "mixed"}}};
    for (auto& [name, options] : table)
      options.insert({"micro_batches", "copies", "exchange", "partial"});
    return table;
  }();
  return known;
}

StageShape shape_of(const std::string& strategy, const Options& options) {
  StageShape shape;
  shape.replicas = options.number("replicas", 1);
  shape.split = options.number("split", 1);
  if (strategy == "ma") {
    shape.shared_ranks = false;
    shape.attention_ranks = options.number("attention", 1);
    shape.expert_ranks = options.number("experts", 1);
    shape.sequence_shards = options.number("sequence", 1);
    shape.batch_shards = options.number("batch", 1);
    shape.mixed = options.number("mixed", 0, 0) != 0;
  } else if (strategy == "ep") {
    shape.attention_ranks = shape.expert_ranks = options.number("ranks", 1);
    shape.sequence_shards = options.number("sequence", 1);
    shape.batch_shards =
        options.number("batch", std::max(1, shape.attention_ranks / shape.sequence_shards));
  } else if (strategy == "tp" || strategy == "tp-pp") {
    shape.attention_ranks = shape.expert_ranks = options.number("ranks", 1);
    shape.exchange = Exchange::replicated;
  }
  shape.exchange = options.exchange(shape.exchange);
  return shape;
}

}  // namespace

std::vector<int> deal_heads(int64_t heads, int groups) {
  std::vector<int> dealt(groups);
  for (int g = 0; g < groups; ++g)
    dealt[g] = static_cast<int>(heads / groups + (g < heads % groups ? 1 : 0));
  return dealt;
}

ExpertPlacement place_experts(int64_t experts, int first_rank, int ranks, int replicas, int split,
                              Exchange exchange) {
  ExpertPlacement placement(experts);
  for (int64_t e = 0; e < experts; ++e) {
    // Consecutive experts share a rank; where ranks outnumber experts, each expert has several, as
    // replicas, or as slices where every rank computes its share of every token.
    const Interval home =
        ranks > experts ? part(ranks, experts, e) : Interval{e * ranks / experts, 0};
    const int spare = ranks > experts ? static_cast<int>(home.size()) : 1;
    const int copies =
        exchange == Exchange::replicated ? replicas : std::max(replicas, spare / split);
    const int slices = exchange == Exchange::replicated ? std::max(split, spare / replicas) : split;
    for (int r = 0; r < std::max(copies, 1); ++r) {
      const int64_t start = ranks > experts ? home.begin + int64_t{r} * slices
                                            : home.begin + int64_t{r} * ranks / copies;
      ExpertReplica replica;
      for (int j = 0; j < slices; ++j)
        replica.ranks.push_back(first_rank + static_cast<int>((start + j) % ranks));
      placement[e].push_back(replica);
    }
  }
  return placement;
}

namespace {

// Spreads the two groups of a stage evenly over its ranks, attention first.
void mix_ranks(Stage& stage, int first_rank, int attention_ranks, int ranks) {
  std::vector<int> attention, experts;
  for (int i = 0; i < ranks; ++i) {
    const auto attention_before = [&](int end) {
      return (end * attention_ranks + ranks - 1) / ranks;
    };
    (attention_before(i + 1) > attention_before(i) ? attention : experts).push_back(first_rank + i);
  }
  const auto renumber = [&](int& rank) {
    const int i = rank - first_rank;
    rank = i < attention_ranks ? attention[i] : experts[i - attention_ranks];
  };
  std::ranges::for_each(stage.attention.ranks, renumber);
  for (auto& replicas : stage.experts.front())
    for (ExpertReplica& replica : replicas) std::ranges::for_each(replica.ranks, renumber);
}

}  // namespace

Plan build_plan(const ModelConfig& model, const StageShape& shape, int stages) {
  const int shards = shape.batch_shards * shape.sequence_shards;
  if (shape.attention_ranks % shards != 0)
    throw InputError("{} attention ranks are not divided by {} batch x {} sequence shards",
                     shape.attention_ranks, shape.batch_shards, shape.sequence_shards);
  if (stages > model.layers) throw InputError("{} stages for {} layers", stages, model.layers);
  if (shape.replicas * shape.split > shape.expert_ranks)
    throw InputError("{} replicas x {} slices of an expert need as many ranks, there are {}",
                     shape.replicas, shape.split, shape.expert_ranks);
  Plan plan;
  int next_rank = 0;
  for (int s = 0; s < stages; ++s) {
    Stage stage{.layers = part(model.layers, stages, s), .exchange = shape.exchange};
    stage.attention = {.heads = deal_heads(model.heads, shape.attention_ranks / shards),
                       .batch_shards = shape.batch_shards,
                       .sequence_shards = shape.sequence_shards};
    for (int i = 0; i < shape.attention_ranks; ++i) stage.attention.ranks.push_back(next_rank + i);
    const int first_expert_rank = next_rank + (shape.shared_ranks ? 0 : shape.attention_ranks);
    stage.experts = {place_experts(model.experts, first_expert_rank, shape.expert_ranks,
                                   shape.replicas, shape.split, shape.exchange)};
    const int end_rank =
        std::max(next_rank + shape.attention_ranks, first_expert_rank + shape.expert_ranks);
    if (shape.mixed) mix_ranks(stage, next_rank, shape.attention_ranks, end_rank - next_rank);
    next_rank = end_rank;
    plan.stages.push_back(std::move(stage));
  }
  // A rank left over in the middle is found by validate(), one at the end by counting alone.
  if (plan.ranks_per_copy() != next_rank)
    throw InputError("rank {} has nothing to do", plan.ranks_per_copy());
  return plan;
}

Plan plan_from_shorthand(const std::string& text, const ModelConfig& model) {
  const std::string strategy = text.substr(0, text.find(':'));
  const auto known = strategies().find(strategy);
  if (known == strategies().end())
    throw InputError("plan '{}' is neither a file nor single, tp, pp, tp-pp, ep or ma", text);
  const Options options(text, known->second);
  Plan plan;
  try {
    plan = build_plan(model, shape_of(strategy, options), options.number("stages", 1));
  } catch (const InputError& error) {
    throw InputError("plan '{}': {}", text, error.what());
  }
  plan.name = text;
  plan.copies = options.number("copies", 1);
  plan.micro_batches = options.number("micro_batches", 1);
  plan.partial_batches = options.number("partial", 0, 0) != 0;
  validate(plan, model);
  return plan;
}

Plan make_plan(const std::string& text, const ModelConfig& model) {
  if (std::filesystem::is_regular_file(text)) {
    Plan plan = read_plan(text);
    validate(plan, model);
    return plan;
  }
  return plan_from_shorthand(text, model);
}

}  // namespace tandem
