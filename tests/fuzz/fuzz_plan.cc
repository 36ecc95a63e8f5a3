// A plan file of any bytes is refused, or is a plan that survives being written; validation then
// refuses it or accepts a plan whose shards can be made.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "tandem/base/error.h"
#include "tandem/plan/layout.h"
#include "tandem/plan/plan_file.h"

namespace {

tandem::ModelConfig small_model() {
  tandem::ModelConfig c;
  c.vocab_size = 7;
  c.hidden_size = 4;
  c.layers = 2;
  c.heads = c.kv_heads = 4;
  c.head_dim = 2;
  c.max_positions = 8;
  c.experts = 3;
  c.top_k = 1;
  c.expert_hidden = 5;
  return c;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tandem::Plan plan;
  try {
    plan = tandem::parse_plan(std::string(reinterpret_cast<const char*>(data), size), "fuzz");
  } catch (const tandem::InputError&) {
    return 0;
  }
  if (tandem::parse_plan(tandem::plan_yaml(plan), "written") != plan) std::abort();
  try {
    tandem::validate(plan, small_model());
  } catch (const tandem::InputError&) {
    return 0;
  }
  if (tandem::shards(plan, small_model()).empty()) std::abort();
  return 0;
}
