#include "tandem/comm/collectives.h"

#include <algorithm>

namespace tandem {

Task<> exchange(Endpoint& endpoint, Group group, Tag tag, std::span<const Tensor> outgoing,
                std::span<const bool> expected, std::span<Tensor> incoming) {
  for (int i = 0; i < group.size(); ++i)
    if (i != group.me && !outgoing[i].empty())
      endpoint.send(group.rank(i), tag, {.parts = {outgoing[i]}});
  incoming[group.me] = outgoing[group.me];
  for (int i = 0; i < group.size(); ++i)
    if (i != group.me && expected[i])
      incoming[i] = (co_await endpoint.receive(group.rank(i), tag)).parts[0];
}

namespace {

// The arrays an exchange needs, from the rank's own memory.
struct Slots {
  Slots(Endpoint& endpoint, int size)
      : outgoing(size, &endpoint.frames()),
        incoming(size, &endpoint.frames()),
        expected_bytes(size, &endpoint.frames()) {}
  std::span<const bool> expected() const {
    static_assert(sizeof(bool) == 1);
    return {reinterpret_cast<const bool*>(expected_bytes.data()), expected_bytes.size()};
  }
  Array<Tensor> outgoing, incoming;
  Array<uint8_t> expected_bytes;
};

int64_t total_rows(std::span<const Interval> parts) { return parts.back().end - parts[0].begin; }

Task<Tensor> gather_directly(Endpoint& endpoint, const Track& track, Group group, Tag tag,
                             std::span<const Interval> parts, Tensor mine) {
  if (group.size() == 1) co_return mine;
  Slots slots(endpoint, group.size());
  for (int i = 0; i < group.size(); ++i) {
    slots.outgoing[i] = mine;
    slots.expected_bytes[i] = !parts[i].empty();
  }
  co_await exchange(endpoint, group, tag, slots.outgoing, slots.expected(), slots.incoming);
  Tensor whole = track.allocate(total_rows(parts), mine.cols, mine.dtype);
  for (int i = 0; i < group.size(); ++i)
    if (!parts[i].empty())
      track.run(CopyRows{.from = slots.incoming[i],
                         .to = whole.slice_rows(parts[i].shifted(-parts[0].begin))});
  co_return whole;
}

Task<Tensor> reduce_scatter_directly(Endpoint& endpoint, const Track& track, Group group, Tag tag,
                                     std::span<const Interval> parts, Tensor addend) {
  if (group.size() == 1) co_return addend;
  Slots slots(endpoint, group.size());
  const bool expect = !parts[group.me].empty();
  for (int i = 0; i < group.size(); ++i) {
    slots.outgoing[i] = addend.slice_rows(parts[i].shifted(-parts[0].begin));
    slots.expected_bytes[i] = expect;
  }
  co_await exchange(endpoint, group, tag, slots.outgoing, slots.expected(), slots.incoming);
  Tensor sum = track.allocate(parts[group.me].size(), addend.cols, addend.dtype);
  if (expect) track.run(Sum{.inputs = slots.incoming, .out = sum});
  co_return sum;
}

// A group as a grid: who shares a node with the caller, who has the caller's place on the other
// nodes. Rows are taken place by place, and within a place node by node, so that what each step
// moves lies together.
struct TwoSteps {
  TwoSteps(Endpoint& endpoint, Group group, std::span<const Interval> parts)
      : inside_ranks(&endpoint.frames()),
        across_ranks(&endpoint.frames()),
        inside_parts(&endpoint.frames()),
        across_parts(&endpoint.frames()),
        order(&endpoint.frames()) {
    const auto found = std::ranges::find(group.by_node, group.me) - group.by_node.begin();
    const int nodes = group.size() / group.node_size;
    node = static_cast<int>(found) / group.node_size;
    place = static_cast<int>(found) % group.node_size;
    order.reserve(total_rows(parts));
    for (int p = 0; p < group.node_size; ++p) {
      const auto first = static_cast<int64_t>(order.size());
      for (int n = 0; n < nodes; ++n) {
        const int member = group.by_node[n * group.node_size + p];
        const auto begin = static_cast<int64_t>(order.size());
        for (int64_t row = parts[member].begin; row < parts[member].end; ++row)
          order.push_back(static_cast<int32_t>(row - parts[0].begin));
        if (n == node) inside_ranks.push_back(group.rank(member));
        if (p != place) continue;
        across_ranks.push_back(group.rank(member));
        across_parts.push_back({begin, static_cast<int64_t>(order.size())});
      }
      inside_parts.push_back({first, static_cast<int64_t>(order.size())});
    }
  }
  Group inside() const { return {.ranks = inside_ranks, .me = place}; }
  Group across() const { return {.ranks = across_ranks, .me = node}; }

  int node = 0, place = 0;
  Array<int> inside_ranks, across_ranks;
  Array<Interval> inside_parts, across_parts;
  Array<int32_t> order;
};

}  // namespace

NodeOrder members_by_node(std::span<const int> ranks, std::span<const int> nodes) {
  std::vector<int> seen;
  std::vector<std::vector<int>> members;
  if (nodes.empty()) return {};
  for (size_t i = 0; i < ranks.size(); ++i) {
    const int node = nodes[static_cast<size_t>(ranks[i])];
    const auto at = std::ranges::find(seen, node) - seen.begin();
    if (at == std::ssize(seen)) {
      seen.push_back(node);
      members.emplace_back();
    }
    members[static_cast<size_t>(at)].push_back(static_cast<int>(i));
  }
  const size_t size = ranks.size() / members.size();
  const bool even = std::ranges::all_of(members, [&](const auto& m) { return m.size() == size; });
  if (members.size() == 1 || size == 1 || !even) return {};
  NodeOrder order{.node_size = static_cast<int>(size)};
  for (const auto& node : members)
    order.members.insert(order.members.end(), node.begin(), node.end());
  return order;
}

Task<Tensor> gather_rows(Endpoint& endpoint, const Track& track, Group group, Tag tag,
                         std::span<const Interval> parts, Tensor mine) {
  if (group.by_node.empty())
    co_return co_await gather_directly(endpoint, track, group, tag, parts, mine);
  const TwoSteps steps(endpoint, group, parts);
  Tensor place =
      co_await gather_directly(endpoint, track, steps.across(), tag, steps.across_parts, mine);
  Tensor all =
      co_await gather_directly(endpoint, track, steps.inside(), tag, steps.inside_parts, place);
  Tensor whole = track.allocate(all.rows, all.cols, all.dtype);
  if (!all.empty()) track.run(CopyRows{.from = all, .to = whole, .to_rows = steps.order});
  co_return whole;
}

Task<Tensor> reduce_scatter_rows(Endpoint& endpoint, const Track& track, Group group, Tag tag,
                                 std::span<const Interval> parts, Tensor addend) {
  if (group.by_node.empty())
    co_return co_await reduce_scatter_directly(endpoint, track, group, tag, parts, addend);
  const TwoSteps steps(endpoint, group, parts);
  Tensor all = track.allocate(addend.rows, addend.cols, addend.dtype);
  if (!all.empty()) track.run(CopyRows{.from = addend, .to = all, .from_rows = steps.order});
  Tensor place = co_await reduce_scatter_directly(endpoint, track, steps.inside(), tag,
                                                  steps.inside_parts, all);
  co_return co_await reduce_scatter_directly(endpoint, track, steps.across(), tag,
                                             steps.across_parts, place);
}

Task<Tensor> columns_to_rows(Endpoint& endpoint, const Track& track, Group group, Tag tag,
                             std::span<const Interval> parts, std::span<const Interval> columns,
                             Tensor mine) {
  if (group.size() == 1) co_return mine;
  Slots slots(endpoint, group.size());
  const bool expect = !parts[group.me].empty();
  for (int i = 0; i < group.size(); ++i) {
    slots.outgoing[i] = mine.slice_rows(parts[i].shifted(-parts[0].begin));
    slots.expected_bytes[i] = expect && !columns[i].empty();
  }
  co_await exchange(endpoint, group, tag, slots.outgoing, slots.expected(), slots.incoming);
  Tensor rows = track.allocate(parts[group.me].size(), columns.back().end, mine.dtype);
  for (int i = 0; expect && i < group.size(); ++i)
    if (!columns[i].empty())
      track.run(CopyRows{.from = slots.incoming[i], .to = rows.slice_cols(columns[i])});
  co_return rows;
}

Task<Tensor> rows_to_columns(Endpoint& endpoint, const Track& track, Group group, Tag tag,
                             std::span<const Interval> parts, std::span<const Interval> columns,
                             Tensor mine) {
  if (group.size() == 1) co_return mine;
  Slots slots(endpoint, group.size());
  const bool expect = !columns[group.me].empty();
  for (int i = 0; i < group.size(); ++i) {
    slots.outgoing[i] = mine.slice_cols(columns[i]);
    slots.expected_bytes[i] = expect && !parts[i].empty();
  }
  co_await exchange(endpoint, group, tag, slots.outgoing, slots.expected(), slots.incoming);
  Tensor all = track.allocate(total_rows(parts), columns[group.me].size(), mine.dtype);
  for (int i = 0; expect && i < group.size(); ++i)
    if (!parts[i].empty())
      track.run(CopyRows{.from = slots.incoming[i],
                         .to = all.slice_rows(parts[i].shifted(-parts[0].begin))});
  co_return all;
}

}  // namespace tandem
