// Plans as YAML; docs/plans.md describes the fields.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "tandem/plan/plan.h"

namespace tandem {

std::string_view exchange_name(Exchange exchange);
Exchange parse_exchange(std::string_view name, const std::string& where);

// read_plan(x) of a file that holds plan_yaml(p) gives p. InputError names the file and the field.
std::string plan_yaml(const Plan& plan);
Plan parse_plan(const std::string& yaml, const std::string& where);
Plan read_plan(const std::filesystem::path& file);

}  // namespace tandem
