// Makes a plan from a shorthand, prints it as YAML, and says what each rank holds.
//   plans [MODEL_DIRECTORY [SHORTHAND]]
#include <cstdio>
#include <map>

#include "tandem/base/error.h"
#include "tandem/plan/layout.h"
#include "tandem/plan/plan_file.h"
#include "tandem/plan/shorthand.h"

using namespace tandem;

namespace {

// "0, 4, 8": experts of the stage's first layer that a rank has, whole or a slice of.
std::string experts_of(const Stage& stage, int local_rank) {
  std::string text;
  const ExpertPlacement& placement = stage.placement(stage.layers.begin);
  for (size_t expert = 0; expert < placement.size(); ++expert)
    for (const ExpertReplica& replica : placement[expert])
      for (const int rank : replica.ranks)
        if (rank == local_rank) text += (text.empty() ? "" : ", ") + std::to_string(expert);
  return text.empty() ? "none" : text;
}

void print_rank(const Plan& plan, const ModelConfig& model, int rank) {
  const Role role = role_of(plan, rank);
  const Stage& stage = plan.stages[role.stage];
  const Interval heads =
      role.attention ? stage.attention.head_range(role.place.group) : Interval{0, 0};
  int64_t elements = 0;
  for (const Region& region : holdings(plan, model, rank)) elements += region.elements();
  std::printf("rank %2d: %lld heads, experts %s, %lld parameters\n", rank,
              static_cast<long long>(heads.size()), experts_of(stage, role.local_rank).c_str(),
              static_cast<long long>(elements));
}

}  // namespace

int main(int argc, char** argv) try {
  const std::string directory = argc > 1 ? argv[1] : "configs/models/ma-256";
  const std::string shorthand = argc > 2 ? argv[2] : "ma:attention=12,experts=4,micro_batches=2";
  const ModelConfig model = read_config(directory + "/config.json");
  const Plan plan = make_plan(shorthand, model);
  const std::string yaml = plan_yaml(plan);
  std::fputs(yaml.c_str(), stdout);
  for (int rank = 0; rank < plan.ranks(); ++rank) print_rank(plan, model, rank);
  return parse_plan(yaml, "yaml") == plan ? 0 : 1;  // what is printed can be read again
} catch (const InputError& error) {
  std::fprintf(stderr, "plans: %s\n", error.what());
  return 2;
}
