// What tests of config.json share: files as values, and mistakes in them.
#pragma once

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "tandem/model/config.h"

namespace tandem {

inline ModelConfig parse(const nlohmann::json& value) {
  return parse_config(value.dump(), "config.json");
}

inline void expect_round_trip(const ModelConfig& config) {
  const std::string text = config_json(config);
  EXPECT_EQ(parse_config(text, "config.json"), config) << text;
}

struct Mistake {
  const char* field;
  nlohmann::json value;
  const char* message;
};

inline void PrintTo(const Mistake& mistake, std::ostream* out) {
  *out << mistake.field << " = " << mistake.value;
}

}  // namespace tandem
