// The version of this program and a hash of its sources: processes of one run are of one build.
#pragma once

#include <string_view>

namespace tandem {

std::string_view build_name();

}  // namespace tandem
