// Models and plans that divide evenly into little: what tests of plans are held against.
#pragma once

#include <string>
#include <vector>

#include "tandem/model/config.h"

namespace tandem::test {

// 32 heads over 8 K/V heads, 16 experts, 4 layers.
inline ModelConfig model_of_32_heads() {
  ModelConfig c;
  c.vocab_size = 97;
  c.hidden_size = 64;
  c.layers = 4;
  c.heads = 32;
  c.kv_heads = 8;
  c.head_dim = 4;
  c.max_positions = 64;
  c.experts = 16;
  c.top_k = 2;
  c.expert_hidden = 40;
  return c;
}

// Every kind of parameter there is: biases, learned positions, a shared expert; tied embeddings.
inline ModelConfig model_of_every_part() {
  ModelConfig c = model_of_32_heads();
  c.vocab_size = 101;
  c.hidden_size = 30;
  c.layers = 5;
  c.heads = c.kv_heads = 12;
  c.norm = NormType::layer;
  c.positions = PositionType::learned;
  c.attention_bias = true;
  c.tied_embeddings = true;
  c.experts = 7;
  c.expert_hidden = 23;
  c.shared_expert_hidden = 19;
  return c;
}

// Two matrices an expert, few heads, one K/V head for all of them.
inline ModelConfig model_of_few_heads() {
  ModelConfig c = model_of_32_heads();
  c.heads = 8;
  c.kv_heads = 1;
  c.gated_experts = false;
  c.experts = 3;
  c.top_k = 1;
  return c;
}

// Shorthands of every strategy and option.
inline std::vector<std::string> many_plans() {
  return {"single",
          "single:micro_batches=3",
          "single:copies=3",
          "tp:ranks=2",
          "tp:ranks=8",
          "tp:ranks=5,split=2",
          "tp:ranks=7",
          "pp:stages=2",
          "pp:stages=4",
          "tp-pp:ranks=8,stages=2",
          "tp-pp:ranks=3,stages=4,copies=2",
          "ep:ranks=2",
          "ep:ranks=16",
          "ep:ranks=5,replicas=2",
          "ep:ranks=4,stages=2",
          "ma:attention=8,experts=8",
          "ma:attention=12,experts=4",
          "ma:attention=12,experts=4,exchange=sums",
          "ma:attention=8,experts=8,sequence=2",
          "ma:attention=4,experts=2,batch=2,sequence=2",
          "ma:attention=2,experts=6,split=3",
          "ma:attention=2,experts=5,replicas=2,split=2",
          "ma:attention=3,experts=2,partial=1",
          "ma:attention=1,experts=20",
          "ma:attention=3,experts=5,stages=3,copies=2"};
}

}  // namespace tandem::test
