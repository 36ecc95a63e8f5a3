#include "tandem/comm/collectives.h"

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

}  // namespace

Task<Tensor> gather_rows(Endpoint& endpoint, const Track& track, Group group, Tag tag,
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

Task<Tensor> reduce_scatter_rows(Endpoint& endpoint, const Track& track, Group group, Tag tag,
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
