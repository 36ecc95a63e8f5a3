#include "tandem/cluster/fault.h"

#include <charconv>
#include <optional>
#include <string_view>

#include "tandem/base/error.h"
#include "tandem/cluster/cluster.h"

namespace tandem {
namespace {

template <class Number>
std::optional<Number> parse_number(std::string_view text) {
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

// "node12" with the prefix "node".
std::optional<int> parse_numbered(std::string_view text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return std::nullopt;
  const auto number = parse_number<int>(text.substr(prefix.size()));
  return number && *number >= 0 ? number : std::nullopt;
}

// What slows or fails; false where the text names nothing.
bool parse_subject(std::string_view text, Fault& fault) {
  static constexpr struct {
    std::string_view prefix;
    Fault::Of of;
  } names[] = {{"rank:", Fault::Of::rank},
               {"device:", Fault::Of::device},
               {"link:device", Fault::Of::device_link},
               {"link:node", Fault::Of::node_link},
               {"link:leaf", Fault::Of::leaf_link}};
  for (const auto& [prefix, of] : names)
    if (const auto number = parse_numbered(text, prefix)) {
      fault.of = of, fault.number = *number;
      return true;
    }
  const size_t dash = text.find('-');
  if (dash == std::string_view::npos) return false;
  const auto one = parse_numbered(text.substr(0, dash), "link:node");
  const auto other = parse_numbered(text.substr(dash + 1), "node");
  if (!one || !other) return false;
  fault.of = Fault::Of::route, fault.number = *one, fault.other = *other;
  return true;
}

}  // namespace

Fault parse_fault(const std::string& text) {
  Fault fault{.text = text};
  const std::string_view all = text;
  size_t end = std::min(all.find(','), all.size());
  if (!parse_subject(all.substr(0, end), fault))
    throw InputError(
        "fault '{}': expected rank:N, device:N, link:deviceN, link:nodeN, link:leafN or "
        "link:nodeN-nodeM, then at=SECONDS and slow=FACTOR",
        text);
  while (end < all.size()) {
    const size_t begin = end + 1;
    end = std::min(all.find(',', begin), all.size());
    const std::string_view pair = all.substr(begin, end - begin);
    const size_t equals = std::min(pair.find('='), pair.size());
    const std::string_view key = pair.substr(0, equals);
    const auto value = parse_number<double>(pair.substr(std::min(equals + 1, pair.size())));
    if (key != "at" && key != "slow")
      throw InputError("fault '{}': '{}' is neither at=SECONDS nor slow=FACTOR", text, pair);
    const double least = key == "at" ? 0 : 1;
    if (!value || !(*value >= least && *value < Pace::never))
      throw InputError("fault '{}': '{}' must be a number of at least {}", text, pair, least);
    (key == "at" ? fault.at_seconds : fault.slow) = *value;
  }
  return fault;
}

void check(const Fault& fault, const Cluster& cluster, int ranks) {
  using enum Fault::Of;
  const auto below = [&](const char* what, int number, int count, const std::string& whose) {
    if (number >= count)
      throw InputError("fault '{}': {} {} of {} in {}", fault.text, what, number, count, whose);
  };
  const auto needs = [&](double bytes_per_second, const char* link) {
    if (bytes_per_second == 0)
      throw InputError("fault '{}': cluster {} has no link '{}' there", fault.text, cluster.name,
                       link);
  };
  const std::string whose = "cluster " + cluster.name;
  const int nodes = static_cast<int>(cluster.nodes.size());
  const auto node = [&](int number) -> const Node& {
    return cluster.nodes[static_cast<size_t>(number)];
  };
  switch (fault.of) {
    case rank:
      return below("rank", fault.number, ranks, "the plan");
    case device:
      return below("device", fault.number, cluster.devices(), whose);
    case device_link:
      below("device", fault.number, cluster.devices(), whose);
      return needs(node(cluster.node_of(fault.number)).inside.bytes_per_second, "inside");
    case node_link:
      below("node", fault.number, nodes, whose);
      return needs(node(fault.number).nic.bytes_per_second, "nic");
    case leaf_link:
      return below("leaf", fault.number, cluster.leaf_of(nodes - 1) + 1, whose);
    case route:
      below("node", fault.number, nodes, whose);
      below("node", fault.other, nodes, whose);
      if (fault.number == fault.other)
        throw InputError("fault '{}': both ends are node {}", fault.text, fault.number);
  }
}

}  // namespace tandem
