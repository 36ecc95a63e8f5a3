// Collectives over a group of ranks, built once for all worlds on Endpoint. In all of them every
// member calls with the same group and tag; `me` is the caller's index in the group. Rows are
// divided among members by `parts`, one interval a member, ascending and without gaps. Sums run in
// group order. Each is direct: at most n - 1 messages out and n - 1 in for each member.
#pragma once

#include <memory_resource>
#include <span>
#include <vector>

#include "tandem/base/task.h"
#include "tandem/comm/endpoint.h"
#include "tandem/device/device.h"

namespace tandem {

template <class T>
using Array = std::pmr::vector<T>;

struct Group {
  std::span<const int> ranks;
  int me = 0;
  int size() const { return static_cast<int>(ranks.size()); }
  int rank(int i) const { return ranks[i]; }
};

// Sends outgoing[i] to member i and receives incoming[i] from member i. An empty outgoing tensor is
// not sent; expected[i] tells whether member i sends one. The own entry is passed through.
Task<> exchange(Endpoint& endpoint, Group group, Tag tag, std::span<const Tensor> outgoing,
                std::span<const bool> expected, std::span<Tensor> incoming);

// Every member has the rows parts[me] of a tensor; all get the whole. Bytes in: (n-1)/n of the
// whole.
Task<Tensor> gather_rows(Endpoint& endpoint, const Track& track, Group group, Tag tag,
                         std::span<const Interval> parts, Tensor mine);

// Every member has an addend of all rows; member i gets the sum of rows parts[i], in the dtype of
// the addends. Bytes in: (n-1)/n of the whole.
Task<Tensor> reduce_scatter_rows(Endpoint& endpoint, const Track& track, Group group, Tag tag,
                                 std::span<const Interval> parts, Tensor addend);

// Every member has all rows of the columns columns[me]; member i gets the rows parts[i] of all
// columns. rows_to_columns is its inverse.
Task<Tensor> columns_to_rows(Endpoint& endpoint, const Track& track, Group group, Tag tag,
                             std::span<const Interval> parts, std::span<const Interval> columns,
                             Tensor mine);
Task<Tensor> rows_to_columns(Endpoint& endpoint, const Track& track, Group group, Tag tag,
                             std::span<const Interval> parts, std::span<const Interval> columns,
                             Tensor mine);

}  // namespace tandem
