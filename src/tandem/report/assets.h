// Files that a report carries inside, turned into source by cmake/embed.cmake when Tandem is built.
#pragma once

#include <string_view>

namespace tandem {

std::string_view chart_library();  // Chart.js, as Debian ships it
std::string_view page_style();     // page.css
std::string_view page_script();    // page.js

}  // namespace tandem
