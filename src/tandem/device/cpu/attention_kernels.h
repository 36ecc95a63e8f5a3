// The kernels behind attention. Which of them computes an operation follows from its dtype and the
// processor alone, so that prefill and decode, alone or together, give a row the same bits.
#pragma once

#include "tandem/device/cpu/attention_work.h"
#include "tandem/device/cpu/blocks.h"

namespace tandem::cpu {

// In f32, for any dtype and processor. Items have all stretches: it needs no borders between them.
void attention_lanes(const Attention& op, const AttentionItem& item);

// bf16, by products of a standing engine, since rows of attention are lanes. An item that has not
// all stretches leaves its sums in `sums`, where those of every item have their place
// (AttentionItem::first_unit); join_stretches() then ends the work of the items that begin with
// `items[0]`, if it is the first of some.
int64_t bf16_sums_bytes(const AttentionHeads& heads);  // of one unit
void attention_bf16(const Attention& op, const Engine& engine, const AttentionItem& item,
                    std::byte* sums);
void join_stretches(const Attention& op, std::span<const AttentionItem> items, std::byte* sums);

// Gradients of some queries of a group: dq of theirs is written, their part of dkeys and dvalues is
// added.
void attention_backward_lanes(const AttentionBackward& op, const GroupRows& rows);
void attention_backward_bf16(const AttentionBackward& op, const Engine& engine,
                             const GroupRows& rows);

}  // namespace tandem::cpu
