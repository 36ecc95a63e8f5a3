#include "tandem/serve/room.h"

#include <algorithm>

#include "tandem/base/error.h"
#include "tandem/device/operations.h"

namespace tandem {

Room::Room(int places, int64_t slots, int64_t blocks)
    : places_(static_cast<size_t>(places)), held_(static_cast<size_t>(slots)), blocks_(blocks) {
  for (Place& place : places_) place.free_blocks = blocks;
  for (auto slot = static_cast<int32_t>(slots) - 1; slot >= 0; --slot)
    places_[place(slot)].free_slots.push_back(slot);  // the lowest is taken first
}

std::optional<int32_t> Room::admit(int64_t tokens) {
  const int64_t wanted = kv_blocks(tokens);
  const auto has_room = [&](const Place& place) {
    const bool empty = place.free_blocks == blocks_;
    return !place.free_slots.empty() && place.free_blocks >= wanted + (empty ? 0 : 1);
  };
  Place* best = nullptr;
  for (Place& place : places_)
    if (has_room(place) && (!best || place.free_blocks > best->free_blocks)) best = &place;
  if (!best) return {};
  const int32_t slot = best->free_slots.back();
  best->free_slots.pop_back();
  best->free_blocks -= wanted;
  held_[slot] = wanted;
  return slot;
}

bool Room::grow(int32_t slot, int64_t tokens) {
  const int64_t more = kv_blocks(tokens) - held_[slot];
  if (more <= 0) return true;
  Place& place_of_slot = places_[place(slot)];
  if (place_of_slot.free_blocks < more) return false;
  place_of_slot.free_blocks -= more;
  held_[slot] += more;
  return true;
}

void Room::release(int32_t slot) {
  Place& place_of_slot = places_[place(slot)];
  place_of_slot.free_blocks += held_[slot];
  place_of_slot.free_slots.push_back(slot);
  held_[slot] = 0;
}

int64_t Room::longest_tokens() const { return blocks_ * kv_block_tokens; }

int64_t Room::used_tokens() const {
  int64_t blocks = 0;
  for (const int64_t held : held_) blocks += held;
  return blocks * kv_block_tokens;
}

int64_t Room::all_tokens() const { return std::ssize(places_) * blocks_ * kv_block_tokens; }

}  // namespace tandem
