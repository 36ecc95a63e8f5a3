#include "tandem/report/html_text.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace tandem {

std::string escape_html(std::string_view text) {
  std::string escaped;
  for (char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

std::string html_table(const Table& table, std::string_view caption) {
  std::string html = "<div class=\"scroll\" tabindex=\"0\"><table>\n";
  if (!caption.empty()) html += fmt::format("<caption>{}</caption>\n", escape_html(caption));
  const auto cell = [&](std::string_view element, size_t column, std::string_view text) {
    const bool left = table.columns()[column].align == Align::left;
    const std::string_view name = element.substr(0, 2);
    html += fmt::format("<{}{}>{}</{}>", element, left ? " class=\"left\"" : "", escape_html(text),
                        name);
  };
  html += "<thead><tr>";
  for (size_t c = 0; c < table.columns().size(); ++c)
    cell("th scope=\"col\"", c, table.columns()[c].title);
  html += "</tr></thead>\n<tbody>\n";
  for (const auto& row : table.rows()) {
    html += "<tr>";
    for (size_t c = 0; c < row.size(); ++c) cell("td", c, row[c]);
    html += "</tr>\n";
  }
  return html + "</tbody></table></div>\n";
}

std::string html_figures(const Table& table) {
  return fmt::format("<details><summary>Show the figures</summary>{}</details>\n",
                     html_table(table, ""));
}

std::string html_json(const nlohmann::json& data) {
  const std::string text = data.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  std::string safe;
  for (char c : text) c == '<' ? safe += "\\u003c" : safe += c;
  return fmt::format("<script type=\"application/json\">{}</script>\n", safe);
}

}  // namespace tandem
