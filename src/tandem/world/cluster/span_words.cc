#include "tandem/world/cluster/span_words.h"

#include <map>
#include <mutex>
#include <set>
#include <string>

namespace tandem {

using nlohmann::json;

json to_json(const std::vector<Span>& spans) {
  std::map<std::string, size_t> numbers;
  json names = json::array(), rows = json::array();
  for (const Span& span : spans) {
    const auto [name, added] = numbers.emplace(span.name, numbers.size());
    if (added) names.push_back(span.name);
    rows.push_back({name->second, static_cast<int>(span.lane), static_cast<int>(span.kind),
                    span.backward, span.layer, span.micro_batch, span.peer, span.start_seconds,
                    span.end_seconds, span.cost.flops, span.cost.bytes});
  }
  return {{"names", names}, {"rows", rows}};
}

namespace {

// Span::name points to text that is never let go of.
const char* kept_name(const std::string& name) {
  static std::mutex mutex;
  static std::set<std::string> names;
  const std::lock_guard lock(mutex);
  return names.insert(name).first->c_str();
}

}  // namespace

std::vector<Span> spans_from(const json& all) {
  std::vector<const char*> names;
  for (const json& name : all.at("names")) names.push_back(kept_name(name));
  std::vector<Span> spans;
  for (const json& row : all.at("rows"))
    spans.push_back({.name = names.at(row.at(0)),
                     .lane = static_cast<Lane>(row.at(1).get<int>()),
                     .kind = static_cast<MessageKind>(row.at(2).get<int>()),
                     .backward = row.at(3),
                     .layer = row.at(4),
                     .micro_batch = row.at(5),
                     .peer = row.at(6),
                     .start_seconds = row.at(7),
                     .end_seconds = row.at(8),
                     .cost = {.flops = row.at(9), .bytes = row.at(10)}});
  return spans;
}

}  // namespace tandem
