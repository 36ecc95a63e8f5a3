#include <fmt/format.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "tandem/cli/commands.h"
#include "tandem/cli/model_options.h"
#include "tandem/planner/reproduction.h"
#include "tandem/report/format.h"
#include "tandem/report/html.h"
#include "tandem/report/table.h"

namespace tandem::cli {
namespace {

struct ReproduceOptions {
  std::string publication = "configs/papers/ma-separation.yaml", json_file, html_file;
  std::vector<std::string> tables;
};

std::string with_unit(const std::string& number, const std::string& unit) {
  return unit.empty() ? number : number + " " + unit;
}

std::string claimed_text(const Finding& f) {
  const char* bound = f.claimed.above ? "> " : f.claimed.below ? "< " : "";
  return bound + with_unit(fmt::format("{}", f.claimed.value), f.unit);
}

std::string ours_text(const Finding& f) {
  if (!f.ours) return "-";
  const std::string number = format_number(*f.ours);
  return with_unit(f.interval ? fmt::format("{} +- {:.2g}", number, *f.interval) : number, f.unit);
}

// Readings by their texts, in the order of their first use: A, B, ...
class ReadingLetters {
 public:
  explicit ReadingLetters(const std::vector<Finding>& findings) {
    for (const Finding& f : findings)
      if (!f.reading.empty() && std::ranges::find(texts_, f.reading) == texts_.end())
        texts_.push_back(f.reading);
  }
  std::string letter(const std::string& text) const {
    const auto index = std::ranges::find(texts_, text) - texts_.begin();
    if (text.empty()) return "";
    return (index >= 26 ? std::string(1, static_cast<char>('A' + index / 26 - 1)) : "") +
           static_cast<char>('A' + index % 26);
  }
  const std::vector<std::string>& texts() const { return texts_; }

 private:
  std::vector<std::string> texts_;
};

Table table_of(const std::vector<Finding>& findings, const std::string& number,
               const ReadingLetters& readings) {
  Table table({{"claim", Align::left},
               {"of", Align::left},
               {"printed"},
               {"ours"},
               {"reading", Align::left},
               {"verdict", Align::left},
               {"because", Align::left}});
  for (const Finding& f : findings)
    if (f.table == number)
      table.add_row({f.quantity, f.subject, claimed_text(f), ours_text(f),
                     readings.letter(f.reading), verdict_name(f.judgement.verdict),
                     f.judgement.reason});
  return table;
}

// Notes of a table's rows, each once.
std::vector<std::string> notes_of(const std::vector<Finding>& findings, const std::string& number) {
  std::vector<std::string> notes;
  for (const Finding& f : findings) {
    const std::string note = f.quantity + ": " + f.note;
    if (f.table == number && !f.note.empty() && std::ranges::find(notes, note) == notes.end())
      notes.push_back(note);
  }
  return notes;
}

// Claims by the best verdict that any reading gives them.
std::map<Verdict, int> count_claims(const std::vector<Finding>& findings) {
  std::map<std::tuple<std::string, std::string, std::string>, Verdict> best;
  for (const Finding& f : findings) {
    const auto [found, fresh] =
        best.try_emplace({f.table, f.quantity, f.subject}, f.judgement.verdict);
    found->second = std::min(found->second, f.judgement.verdict);
  }
  std::map<Verdict, int> counts;
  for (const auto& [claim, verdict] : best) ++counts[verdict];
  return counts;
}

std::string summary(const std::vector<Finding>& findings) {
  std::string text;
  int all = 0;
  for (const auto& [verdict, count] : count_claims(findings)) {
    text += fmt::format(", {} {}", count, verdict_name(verdict));
    all += count;
  }
  return fmt::format("{} claims, each by its best reading{}", all, text);
}

std::vector<const ClaimTable*> tables_in(const Publication& publication,
                                         const std::vector<Finding>& findings) {
  std::vector<const ClaimTable*> tables;
  for (const ClaimTable& table : publication.tables)
    if (std::ranges::find(findings, table.number, &Finding::table) != findings.end())
      tables.push_back(&table);
  return tables;
}

void print(const Publication& publication, const std::vector<Finding>& findings) {
  const ReadingLetters readings(findings);
  fmt::print("{}\n{}\n\nreproduced: within {}\n", publication.title, publication.setting,
             format_share(publication.tolerance));
  for (const std::string& text : readings.texts())
    fmt::print("reading {}: {}\n", readings.letter(text), text);
  for (const ClaimTable* table : tables_in(publication, findings)) {
    fmt::print("\n{} {}\n{}", table->number, table->title,
               table_of(findings, table->number, readings).text());
    for (const std::string& note : notes_of(findings, table->number)) fmt::print("  {}\n", note);
  }
  fmt::print("\n{}\n", summary(findings));
}

nlohmann::json to_json(const Publication& publication, const std::vector<Finding>& findings) {
  auto rows = nlohmann::json::array();
  for (const Finding& f : findings) {
    nlohmann::json row{{"table", f.table},
                       {"quantity", f.quantity},
                       {"subject", f.subject},
                       {"unit", f.unit},
                       {"printed", f.claimed.value},
                       {"verdict", verdict_name(f.judgement.verdict)},
                       {"reason", f.judgement.reason},
                       {"reading", f.reading},
                       {"plan", f.plan},
                       {"against_plan", f.against_plan},
                       {"note", f.note}};
    if (f.claimed.above || f.claimed.below) row["bound"] = f.claimed.above ? "above" : "below";
    if (f.ours) row["ours"] = *f.ours;
    if (f.interval) row["ours_half_interval"] = *f.interval;
    rows.push_back(std::move(row));
  }
  return {{"title", publication.title}, {"tolerance", publication.tolerance}, {"claims", rows}};
}

// Printed and simulated values of a table, side by side, reading by reading, as shares of the
// printed ones.
BarChart chart_of(const std::vector<Finding>& findings, const ClaimTable& table,
                  const ReadingLetters& readings) {
  BarChart chart{.title = "Ours, as a share of the printed value", .y_label = "%"};
  const auto group_of = [](const Finding& f) { return f.quantity + ", " + f.subject; };
  for (const Finding& f : findings)
    if (f.table == table.number && f.ours && f.claimed.value != 0 &&
        std::ranges::find(chart.groups, group_of(f)) == chart.groups.end())
      chart.groups.push_back(group_of(f));
  for (const std::string& text : readings.texts()) {
    BarSeries series{.name = "reading " + readings.letter(text)};
    series.values.assign(chart.groups.size(), std::nan(""));
    bool any = false;
    for (const Finding& f : findings) {
      const auto at = std::ranges::find(chart.groups, group_of(f)) - chart.groups.begin();
      if (f.table != table.number || f.reading != text || at == std::ssize(chart.groups)) continue;
      series.values[static_cast<size_t>(at)] = 100 * *f.ours / f.claimed.value;
      any = true;
    }
    if (any) chart.series.push_back(std::move(series));
  }
  return chart;
}

void write_html(const std::string& file, const Publication& publication,
                const std::vector<Finding>& findings) {
  const ReadingLetters readings(findings);
  HtmlReport html("Reproduction", publication.title);
  html.paragraph(publication.setting);
  html.paragraph(summary(findings) + ".");
  Table legend({{"reading", Align::left}, {"what was run", Align::left}});
  for (const std::string& text : readings.texts()) legend.add_row({readings.letter(text), text});
  html.table("Readings", legend);
  for (const ClaimTable* table : tables_in(publication, findings)) {
    html.heading(table->number + " " + table->title);
    html.table("", table_of(findings, table->number, readings));
    for (const std::string& note : notes_of(findings, table->number)) html.paragraph(note);
    const BarChart chart = chart_of(findings, *table, readings);
    if (!chart.groups.empty()) html.bar_chart(chart);
  }
  html.write(file);
}

void run(const ReproduceOptions& o) {
  const Publication publication = read_publication(o.publication);
  const bool terminal = isatty(STDERR_FILENO) != 0;
  const std::vector<Finding> findings = reproduce(publication, o.tables, [&](int done, int all) {
    if (terminal) fmt::print(stderr, "\rsimulating {}/{}{}", done, all, done == all ? "\n" : "");
  });
  print(publication, findings);
  write_json(o.json_file, to_json(publication, findings));
  if (!o.html_file.empty()) write_html(o.html_file, publication, findings);
}

}  // namespace

void add_reproduce(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("reproduce", "Hold what a publication claims against simulated runs");
  const auto o = std::make_shared<ReproduceOptions>();
  command->add_option("publication", o->publication, "What is claimed (docs/reproduce.md)")
      ->capture_default_str();
  command->add_option("--table", o->tables, "Only these tables");
  command->add_option("--json", o->json_file, "Write the results here (docs/json.md)");
  command->add_option("--html", o->html_file, "Write a report here");
  command->callback([o] { run(*o); });
}

}  // namespace tandem::cli
