// Counter-based random numbers (Philox4x32-10: Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3", SC 2011). A number depends only on its key and counter, so that dropout masks, initial
// weights and sampled tokens are the same under every plan. Pure functions, safe from any thread.
#pragma once

#include <array>
#include <cstdint>

namespace tandem {

// What a stream of numbers is for; part of the counter, so that streams never overlap.
enum class RandomStream : uint32_t {
  initial_weights,
  hidden_dropout,
  attention_dropout,
  expert_dropout,
  sampling,
  data_order,
  prompts,
  routing,
  routing_order,
};

inline std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter,
                                      std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53} * counter[0];
    const uint64_t b = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

// Mixes two words into one (SplitMix64 finaliser), for building keys out of several numbers.
inline uint64_t mix(uint64_t a, uint64_t b) {
  uint64_t z = a + 0x9E3779B97F4A7C15ull * (b + 1);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

// Uniform in [0, 1), 24 bits.
inline float unit_float(uint32_t bits) { return static_cast<float>(bits >> 8) * 0x1p-24f; }

// A random source addressed by (item, index): four 32-bit numbers for each (item, index / 4).
class RandomSource {
 public:
  RandomSource(uint64_t seed, RandomStream stream, uint32_t step = 0, uint32_t layer = 0)
      : key_(mix(mix(seed, static_cast<uint64_t>(stream)), (uint64_t{step} << 32) | layer)) {}

  std::array<uint32_t, 4> block(uint64_t item, uint64_t block_index) const {
    return philox({static_cast<uint32_t>(item), static_cast<uint32_t>(item >> 32),
                   static_cast<uint32_t>(block_index), static_cast<uint32_t>(block_index >> 32)},
                  {static_cast<uint32_t>(key_), static_cast<uint32_t>(key_ >> 32)});
  }
  uint32_t bits(uint64_t item, uint64_t index) const { return block(item, index / 4)[index % 4]; }
  float uniform(uint64_t item, uint64_t index) const { return unit_float(bits(item, index)); }

 private:
  uint64_t key_;
};

}  // namespace tandem
