// Small models of every family, made with transformers (scripts/make-parity-models.py).
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

namespace tandem {

inline const std::filesystem::path parity_models =
    std::filesystem::path(TANDEM_SOURCE_DIR) / "tests/parity";

// In the order of their names.
inline std::vector<std::string> parity_model_names() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(parity_models))
    if (entry.is_directory()) names.push_back(entry.path().filename());
  std::ranges::sort(names);
  return names;
}

// As GoogleTest wants names of parameters.
inline std::string parity_test_name(const ::testing::TestParamInfo<std::string>& model) {
  std::string name = model.param;
  std::ranges::replace(name, '-', '_');
  return name;
}

}  // namespace tandem
