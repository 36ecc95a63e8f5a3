// Collectives over a group of ranks, built once for all worlds on Endpoint. In all of them every
// member calls with the same group and tag; `me` is the caller's index in the group. Rows are
// divided among members by `parts`, one interval a member, ascending and without gaps.
//
// Each is direct: at most n - 1 messages out and n - 1 in for each member; sums run in group order.
// Where a group lies on N nodes with as many members on each, gather_rows and reduce_scatter_rows
// take two steps instead, inside the nodes and between members with the same place on theirs: n/N +
// N - 2 messages, and a node's rows cross the network once, not once for each of its members. Sums
// then run over the members of a node in group order, and over nodes in the order of their first
// members.
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

// Members (indices in the group) node after node, `node_size` of each.
struct NodeOrder {
  std::vector<int> members;
  int node_size = 0;
};
// Without members where two steps would gain nothing: all on one node, each on its own, or not as
// many on each. nodes[r] is the node of rank r; empty: all on one.
NodeOrder members_by_node(std::span<const int> ranks, std::span<const int> nodes);

struct Group {
  std::span<const int> ranks;
  int me = 0;
  std::span<const int> by_node;  // NodeOrder::members, or empty
  int node_size = 0;
  int size() const { return static_cast<int>(ranks.size()); }
  int rank(int i) const { return ranks[i]; }
};

// Sends outgoing[i] to member i and receives incoming[i] from member i. An empty outgoing tensor is
// not sent; expected[i] tells whether member i sends one. The own entry is passed through.
Task<> exchange(Endpoint& endpoint, Group group, Tag tag, std::span<const Tensor> outgoing,
                std::span<const bool> expected, std::span<Tensor> incoming);

// Every member has the rows parts[me] of a tensor; all get the whole. Bytes in: (n-1)/n of the
// whole, of them from other nodes (N-1)/N in one step, (N-1)/n in two.
Task<Tensor> gather_rows(Endpoint& endpoint, const Track& track, Group group, Tag tag,
                         std::span<const Interval> parts, Tensor mine);

// Every member has an addend of all rows; member i gets the sum of rows parts[i], in the dtype of
// the addends. Bytes in: as gather_rows.
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
