// The status page, turned into source by cmake/embed.cmake when Tandem is built.
#pragma once

#include <string_view>

namespace tandem {

std::string_view status_page();  // page.html

}  // namespace tandem
