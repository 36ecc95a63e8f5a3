// What each rank of a plan holds of a model's parameters, and who shares what.
#pragma once

#include <vector>

#include "tandem/model/parameters.h"
#include "tandem/plan/plan.h"

namespace tandem {

// Rows and columns of one parameter.
struct Region {
  ParameterId id;
  Interval rows, cols;
  int64_t elements() const { return rows.size() * cols.size(); }
  bool contains(const Region& other) const {
    return id == other.id && rows.contains(other.rows) && cols.contains(other.cols);
  }
  friend auto operator<=>(const Region&, const Region&) = default;
};

int64_t elements_of(const std::vector<Region>& regions);

// The regions rank `rank` (of all copies) computes with. No two overlap.
std::vector<Region> holdings(const Plan& plan, const ModelConfig& model, int rank);

// Of every rank.
std::vector<std::vector<Region>> all_holdings(const Plan& plan, const ModelConfig& model);

// A region cut so that it is held whole by each of its holders and by no other rank.
struct Shard {
  Region region;
  std::vector<int> holders;  // ascending
};
// What is held, [holder][region], cut at every border of every region, in a fixed order.
std::vector<Shard> cut(const std::vector<std::vector<Region>>& held);
// All parameters, cut at every border of every rank's holdings.
std::vector<Shard> shards(const Plan& plan, const ModelConfig& model);

// Holder `index`'s piece of a shard, when work on it is divided: by rows, or columns of few rows.
Region shard_piece(const Shard& shard, int index);

// K/V heads that a range of query heads needs.
Interval kv_heads_of(const ModelConfig& model, const Interval& heads);

}  // namespace tandem
