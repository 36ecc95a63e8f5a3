// Pieces of HTML that the parts of a report are made of.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "tandem/report/table.h"

namespace tandem {

// Safe as text and inside a quoted attribute.
std::string escape_html(std::string_view text);

// A table that scrolls by itself where the page is narrow; no caption where that is empty.
std::string html_table(const Table& table, std::string_view caption);

// The figures of a chart as a table that is folded away: what a screen reader or a search finds.
std::string html_figures(const Table& table);

// Data for page.js, such that no text in it can end the element.
std::string html_json(const nlohmann::json& data);

}  // namespace tandem
