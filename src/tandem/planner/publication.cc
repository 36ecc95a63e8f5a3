#include "tandem/planner/publication.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "tandem/base/yaml.h"
#include "tandem/planner/figure.h"

namespace tandem {
namespace {

template <class Value>
Value parse_name(const std::string& text, const std::string& where,
                 std::initializer_list<std::pair<const char*, Value>> known) {
  std::string names;
  for (const auto& [name, value] : known) {
    if (text == name) return value;
    names += names.empty() ? name : fmt::format(", {}", name);
  }
  throw InputError("{}: '{}' is none of {}", where, text, names);
}

// "34.2", "> 0", "< 1".
void parse_value(const std::string& text, const std::string& where, ClaimedValue& to) {
  to.above = text.starts_with("> ");
  to.below = text.starts_with("< ");
  const char* begin = text.data() + (to.above || to.below ? 2 : 0);
  const auto [end, error] = std::from_chars(begin, text.data() + text.size(), to.value);
  if (error != std::errc() || end != text.data() + text.size())
    throw InputError("{}: '{}' is neither a number nor a bound", where, text);
}

class Parser {
 public:
  Parser(const std::string& yaml, const std::filesystem::path& file)
      : file_(file),
        map_(parse_yaml(yaml, file.string()), file.string(),
             {"title", "setting", "tolerance", "systems", "experiment", "readings", "tables"}) {}

  Publication run() {
    result_.title = map_.get<std::string>("title");
    result_.setting = map_.get<std::string>("setting", "");
    if (map_.has("tolerance")) result_.tolerance = map_.positive("tolerance");
    for (const auto& entry : map_.field("systems"))
      result_.systems[entry.first.as<std::string>()] = entry.second.as<std::string>();
    Experiment common;
    if (map_.has("experiment"))
      read_experiment(experiment_map(map_.field("experiment"), map_.path("experiment")), common);
    for (const auto& entry : map_.field("readings"))
      read_reading(entry.first.as<std::string>(), entry.second, common);
    const YAML::Node tables = map_.list("tables");
    for (size_t i = 0; i < tables.size(); ++i)
      read_table(tables[i], fmt::format("{}, table {}", file_.string(), i));
    return std::move(result_);
  }

 private:
  static YamlMap experiment_map(const YAML::Node& node, const std::string& where) {
    return {node,
            where,
            {"text", "like", "systems", "model", "cluster", "plan", "routing", "work", "batch",
             "context", "accumulate", "steps", "faults"}};
  }

  void read_experiment(const YamlMap& map, Experiment& e) const {
    const auto path = [&](const char* key, std::filesystem::path& to) {
      if (map.has(key)) to = (file_.parent_path() / map.get<std::string>(key)).lexically_normal();
    };
    path("model", e.model);
    path("cluster", e.cluster);
    e.plan = map.get("plan", e.plan);
    e.routing = map.get("routing", e.routing);
    if (map.has("work"))
      e.work.kind = parse_name<WorkKind>(map.get<std::string>("work"), map.path("work"),
                                         {{"decode", WorkKind::decode},
                                          {"prefill", WorkKind::prefill},
                                          {"train", WorkKind::train}});
    e.work.sequences = map.get("batch", e.work.sequences);
    e.work.context_tokens = map.get("context", e.work.context_tokens);
    e.work.groups = map.get("accumulate", e.work.groups);
    e.steps = map.get("steps", e.steps);
    e.faults = map.get("faults", e.faults);
    for (const std::string& fault : e.faults) try {
        parse_fault(fault);
      } catch (const InputError& error) {
        throw InputError("{}: {}", map.path("faults"), error.what());
      }
  }

  // A reading that is `like` another one has its systems; its own fields come on top.
  void read_reading(const std::string& name, const YAML::Node& node, const Experiment& common) {
    const YamlMap map = experiment_map(node, map_.path("readings") + ", " + name);
    Reading reading;
    if (map.has("like")) {
      const auto like = map.get<std::string>("like");
      const auto found = result_.readings.find(like);
      if (found == result_.readings.end())
        throw InputError("{}: no reading '{}' above this one", map.path("like"), like);
      reading = found->second;
    }
    for (auto& [system, experiment] : reading.systems) read_experiment(map, experiment);
    Experiment own = common;
    read_experiment(map, own);
    reading.text = map.get<std::string>("text");
    if (map.has("systems"))
      for (const auto& entry : map.field("systems")) {
        const auto system = entry.first.as<std::string>();
        if (!result_.systems.contains(system))
          throw InputError("{}: no system '{}'", map.path("systems"), system);
        Experiment& experiment = reading.systems.try_emplace(system, own).first->second;
        if (entry.second.IsScalar())
          experiment.plan = entry.second.as<std::string>();
        else
          read_experiment(experiment_map(entry.second, map.path("systems") + ", " + system),
                          experiment);
      }
    for (const auto& [system, e] : reading.systems)
      if (e.model.empty() || e.cluster.empty() || e.plan.empty())
        throw InputError("{}, {}: model, cluster and plan are needed", map.where(), system);
    result_.readings[name] = std::move(reading);
  }

  void read_table(const YAML::Node& node, const std::string& where) {
    const YamlMap map(node, where, {"table", "title", "readings", "rows"});
    ClaimTable& table = result_.tables.emplace_back();
    table.number = map.get<std::string>("table");
    table.title = map.get<std::string>("title");
    const auto readings = map.get<std::vector<std::string>>("readings", {});
    const YAML::Node rows = map.list("rows");
    for (size_t i = 0; i < rows.size(); ++i)
      table.rows.push_back(read_row(
          rows[i], fmt::format("{}, table {}, row {}", file_.string(), table.number, i), readings));
  }

  Row read_row(const YAML::Node& node, const std::string& where,
               const std::vector<std::string>& readings) const {
    const YamlMap map(node, where,
                      {"quantity", "unit", "metric", "compare", "values", "readings", "seeds",
                       "note", "not_reproducible", "pending"});
    Row row{.quantity = map.get<std::string>("quantity"),
            .unit = map.get<std::string>("unit", ""),
            .metric = map.get<std::string>("metric", ""),
            .readings = map.get("readings", readings),
            .seeds = map.get<uint64_t>("seeds", 1),
            .note = map.get<std::string>("note", ""),
            .not_reproducible = map.get<std::string>("not_reproducible", ""),
            .pending = map.get<std::string>("pending", "")};
    row.comparison =
        parse_name<Comparison>(map.get<std::string>("compare", "none"), map.path("compare"),
                               {{"none", Comparison::none},
                                {"ratio", Comparison::ratio},
                                {"increase", Comparison::increase},
                                {"reduction", Comparison::reduction}});
    for (const auto& entry : map.field("values")) {
      const auto subject = entry.first.as<std::string>();
      const size_t slash = subject.find('/');
      ClaimedValue value{.subject = {.system = subject.substr(0, slash)}};
      if (slash != std::string::npos) value.subject.against = subject.substr(slash + 1);
      parse_value(YamlMap::convert<std::string>(entry.second, map.path("values")),
                  map.path("values") + ", " + subject, value);
      row.values.push_back(value);
    }
    check(row, map);
    return row;
  }

  void check(const Row& row, const YamlMap& map) const {
    if (row.values.empty()) throw InputError("{}: is empty", map.path("values"));
    unit_of(row.unit, map.path("unit"));
    if (row.seeds < 1) throw InputError("{}: must be at least 1", map.path("seeds"));
    for (const ClaimedValue& value : row.values) {
      const bool compared = !value.subject.against.empty();
      if (compared != (row.comparison != Comparison::none) && !row.settled())
        throw InputError("{}, {}: 'a/b' goes with 'compare', and only with it", map.path("values"),
                         value.subject.system);
      for (const std::string& system : {value.subject.system, value.subject.against})
        if (!system.empty() && !result_.systems.contains(system))
          throw InputError("{}: no system '{}'", map.path("values"), system);
    }
    if (row.settled()) return;
    if (row.readings.empty()) throw InputError("{}: 'readings' is missing", map.where());
    for (const std::string& name : row.readings) {
      const auto reading = result_.readings.find(name);
      if (reading == result_.readings.end())
        throw InputError("{}: no reading '{}'", map.path("readings"), name);
      for (const ClaimedValue& value : row.values)
        for (const std::string& system : {value.subject.system, value.subject.against})
          if (!system.empty() && !reading->second.systems.contains(system))
            throw InputError("{}: reading '{}' does not say what '{}' is", map.path("values"), name,
                             system);
    }
    check_metric(row.metric, map.path("metric"));
  }

  std::filesystem::path file_;
  YamlMap map_;
  Publication result_;
};

}  // namespace

Publication parse_publication(const std::string& yaml, const std::filesystem::path& where) {
  return Parser(yaml, where).run();
}

Publication read_publication(const std::filesystem::path& file) {
  return parse_publication(read_text(file), file);
}

}  // namespace tandem
