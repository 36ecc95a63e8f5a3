// The two products of a backward pass, on the calling thread.
#pragma once

#include <span>

#include "tandem/device/cpu/panels.h"

namespace tandem::cpu {

// Panels behind each other.
struct PackedPanels {
  const std::byte* data = nullptr;
  int64_t lines = 0;

  int64_t bytes_each() const { return lines * block_rows * line_bytes; }
  // Panel i, from a line on.
  Panel at(int64_t i, int64_t line) const {
    const std::byte* panel = data + i * bytes_each() + line * block_rows * line_bytes;
    return {{panel, panel + 16 * line_bytes}, line_bytes, block_rows * line_bytes};
  }
};

// One addend of an input gradient: dy weight.
struct GradientTerm {
  RowsOf dy;
  Tensor weight;
};

// dx = sum of the terms, in their order, block by block. Every dy has the same number of rows.
class InputGradient {
 public:
  InputGradient(const Engine& engine, std::span<const GradientTerm> terms);

  // Calls body(sums, rows, columns) for the blocks of 32 columns in `blocks`.
  template <class Body>
  void blocks(const Interval& blocks, const Body& body) {
    Sums* const sums = sums_scratch(blocks_of(rows_) * most_blocks);
    for (int64_t first = blocks.begin; first < blocks.end; first += most_blocks) {
      const Interval group{first, std::min(first + most_blocks, blocks.end)};
      pack_weights(group);
      multiply(group, sums);
      for (int64_t i = 0; i < blocks_of(rows_); ++i)
        for (int64_t j = group.begin; j < group.end; ++j)
          body(sums[i * most_blocks + j - group.begin],
               Interval{i * block_rows, std::min((i + 1) * block_rows, rows_)},
               columns_of({j, j + 1}));
    }
  }

 private:
  static constexpr size_t most_terms = 2;
  static constexpr int64_t most_blocks = 8;  // made from 512 bytes of each row of bf16 weights

  void pack_weights(const Interval& blocks);
  void multiply(const Interval& blocks, Sums* sums) const;
  Interval columns_of(const Interval& blocks) const {
    return {blocks.begin * block_columns,
            std::min(blocks.end * block_columns, terms_[0].weight.cols)};
  }

  const Engine& engine_;
  std::span<const GradientTerm> terms_;
  int64_t rows_;
  PackedPanels panels_[most_terms];
  Strips strips_[most_terms];
};

// The blocks of dx, written to columns of `dx`'s rows.
void input_gradient(const Engine& engine, std::span<const GradientTerm> terms,
                    const Interval& blocks, const Target& dx);

// dweight += dy^T x, in rows [32 panels.begin, 32 panels.end) of dweight.
void weight_gradient(const Engine& engine, const RowsOf& dy, const RowsOf& x, const Tensor& dweight,
                     const Interval& panels);

}  // namespace tandem::cpu
