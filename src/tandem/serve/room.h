// Slots and K/V blocks of an engine: which are free. A sequence lives at a place (a copy and a home
// of the plan), which follows from its slot, and takes blocks there. Not synchronised.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace tandem {

class Room {
 public:
  // Slot s is at place s % places; `blocks`, of kv_block_tokens, are at each of the places.
  Room(int places, int64_t slots, int64_t blocks);

  // A slot with blocks for so many tokens, at the place that has most of them; none where no place
  // has enough, and one more for those that live there already.
  std::optional<int32_t> admit(int64_t tokens);
  // False where the slot's place has no block for it.
  bool grow(int32_t slot, int64_t tokens);
  void release(int32_t slot);

  int place(int32_t slot) const { return slot % static_cast<int>(places_.size()); }
  int64_t longest_tokens() const;  // that a sequence may have
  int64_t used_tokens() const;     // whole blocks, at all places
  int64_t all_tokens() const;

 private:
  struct Place {
    std::vector<int32_t> free_slots;
    int64_t free_blocks = 0;
  };
  std::vector<Place> places_;
  std::vector<int64_t> held_;  // blocks, by slot
  int64_t blocks_ = 0;         // of a place
};

}  // namespace tandem
