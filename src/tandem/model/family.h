// Families of models as transformers names them: what model_type says of a config.json and of the
// names in a checkpoint. What a family leaves open is told by the fields of its file.
#pragma once

#include <span>
#include <string_view>
#include <utility>

#include "tandem/model/config.h"

namespace tandem {

struct FieldNames;

struct Family {
  std::string_view model_type, architecture;
  // Where a layer keeps its experts, and what their matrices are called.
  std::string_view mixture, gate, up, down;
  std::string_view shared = "shared_expert.";
  // A model without routing: one expert that takes every token, and no router in the checkpoint.
  bool dense = false;
  // Latent attention, first layers that are dense, and groups of experts: DeepSeek's.
  bool latent = false;
  // Fields of the family's files that not all of transformers has, by our first name for them.
  using Name = std::pair<std::string_view, std::string_view>;
  std::span<const Name> named = {};

  bool ours() const { return model_type == "tandem_moe"; }
  // Under which name its files have a field; empty: transformers does not know it there.
  std::string_view name_of(const FieldNames& names) const;
};

// InputError, naming `where`, for one that is not known.
const Family& family_of(std::string_view model_type, std::string_view where = "model_type");

// What a field is where the file does not give it.
ModelConfig default_config(const Family& family);

}  // namespace tandem
