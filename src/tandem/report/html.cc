#include "tandem/report/html.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>

#include <cstdio>
#include <system_error>

#include "tandem/base/error.h"
#include "tandem/report/assets.h"
#include "tandem/report/html_text.h"

namespace tandem {
namespace {

void write_whole(const std::filesystem::path& path, std::string_view bytes) {
  std::FILE* file = std::fopen(path.c_str(), "wb");
  if (!file) throw_errno(fmt::format("cannot write {}", path.string()));
  const bool written = std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size() &&
                       std::fflush(file) == 0 && fsync(fileno(file)) == 0;
  const int cause = errno;
  if (std::fclose(file) != 0 || !written) {
    if (!written) errno = cause;
    throw_errno(fmt::format("cannot write {}", path.string()));
  }
}

}  // namespace

HtmlReport::HtmlReport(std::string title, std::string subtitle)
    : title_(std::move(title)), subtitle_(std::move(subtitle)) {}

void HtmlReport::heading(std::string_view text) {
  body_ += fmt::format("<h2>{}</h2>\n", escape_html(text));
}

void HtmlReport::paragraph(std::string_view text) {
  body_ += fmt::format("<p>{}</p>\n", escape_html(text));
}

void HtmlReport::figures(const std::vector<std::pair<std::string, std::string>>& figures) {
  body_ += "<dl class=\"figures\">\n";
  for (const auto& [label, value] : figures)
    body_ +=
        fmt::format("<div><dt>{}</dt><dd>{}</dd></div>\n", escape_html(label), escape_html(value));
  body_ += "</dl>\n";
}

void HtmlReport::table(std::string_view caption, const Table& table) {
  body_ += fmt::format("<figure>{}</figure>\n", html_table(table, caption));
}

std::string HtmlReport::html() const {
  std::string page = fmt::format(
      "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<title>{}</title>\n<style>\n{}</style>\n</head>\n<body>\n<main>\n<h1>{}</h1>\n",
      escape_html(title_), page_style(), escape_html(title_));
  if (!subtitle_.empty())
    page += fmt::format("<p class=\"subtitle\">{}</p>\n", escape_html(subtitle_));
  page += body_;
  page += "</main>\n";
  if (charts_) page += fmt::format("<script>{}</script>\n", chart_library());
  page += fmt::format("<script>\n{}</script>\n</body>\n</html>\n", page_script());
  return page;
}

void HtmlReport::write(const std::filesystem::path& path) const {
  const std::filesystem::path part = fmt::format("{}.{}.part", path.string(), getpid());
  std::error_code error;
  try {
    write_whole(part, html());
  } catch (const WorldError&) {
    std::filesystem::remove(part, error);
    throw;
  }
  std::filesystem::rename(part, path, error);
  if (error) {
    std::error_code ignored;
    std::filesystem::remove(part, ignored);
    throw WorldError("cannot write {}: {}", path.string(), error.message());
  }
}

}  // namespace tandem
