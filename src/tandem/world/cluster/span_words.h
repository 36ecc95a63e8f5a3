// Spans as they travel from process to process.
#pragma once

#include <nlohmann/json.hpp>
#include <vector>

#include "tandem/trace/span.h"

namespace tandem {

nlohmann::json to_json(const std::vector<Span>& spans);
// Names live as long as the program. nlohmann::json::exception where it is not one of to_json's.
std::vector<Span> spans_from(const nlohmann::json& json);

}  // namespace tandem
