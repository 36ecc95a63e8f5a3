// Gradients and AdamW of one rank. Each shard of a parameter (plan/layout.h) is updated by its
// holders, each its own piece, or by the first of them alone; the others get the result.
#pragma once

#include <string>
#include <vector>

#include "tandem/runtime/rank.h"

namespace tandem {

class Optimizer {
 public:
  // What one rank updates: a piece of a shard.
  struct Piece {
    Region region;
    Tensor gradient;  // f32 view of the rank's gradients
    Tensor weight;    // view of the parameter store
    Tensor master;    // f32; the weight itself where that is f32
    Tensor first_moment, second_moment;
    const Tensor& state(PieceState which) const;
  };

  explicit Optimizer(Rank& rank);

  void zero_gradients();
  // Afterwards each piece's gradient is the sum over its holders, in their order; the norm over all
  // ranks is in the report.
  Task<> reduce();
  // As at the first step, with the weights as they are now.
  void begin_anew();
  // AdamW with clipping; afterwards every holder has the new weights.
  Task<> step();

  std::pmr::memory_resource& frames() { return rank_.frames(); }
  std::vector<Piece>& pieces() { return pieces_; }
  int64_t bytes() const;  // of moments and master weights

 private:
  struct Shared {  // a shard this rank holds with others
    Shard shard;
    int me = 0;
    int piece = -1;  // index in pieces_, or -1 where this rank updates none of it
    // By holder: what coded gradients have left unsaid (f32), from the first of them on.
    std::vector<Tensor> residuals;
  };
  void add_shard(const Shard& shard);
  Region piece_of(const Shard& shard, int holder) const;
  Tensor gradient_of(const Region& region) const;
  Tensor encoded(Shared& shared, int holder);
  Tensor decoded(const Tensor& message, const Tensor& like) const;
  Task<> sum_gradients();
  Task<> sum_norm(double own);
  Task<> spread_weights();
  void adjust_router_bias(const Piece& piece);

  Rank& rank_;
  Track track_;
  std::vector<Piece> pieces_;
  std::vector<Shared> shared_;
};

// The numbers of `part`, which lies within `all`, out of those of `all`.
Tensor part_of(const Tensor& numbers, const Region& all, const Region& part);

// The regions that each rank of a plan updates, in the order of its Optimizer::pieces().
std::vector<std::vector<Region>> updated_regions(const Plan& plan, const ModelConfig& model,
                                                 bool shard_optimizer);
// How many weights those are.
std::vector<int64_t> updated_elements(const Plan& plan, const ModelConfig& model,
                                      bool shard_optimizer);

}  // namespace tandem
