// Blocks of bf16, turned from rows of positions to rows of features.
#include "tandem/device/cpu/attention_block.h"
#include "tandem/device/cpu/avx512_lanes.h"

namespace tandem::cpu {

// Each 16 bytes of a result are 8 positions in order. So four pieces of 16 bytes, of positions that
// lie 8 apart, go side by side; then 8 x 8 numbers are turned within every 16 bytes.
TANDEM_AVX512 void turn_bf16(const std::byte* from, int64_t row_step, std::byte* to,
                             LinesAhead& ahead, int64_t lines) {
  // Side by side first: rows of a cache lie far apart, and would drive each other out of it.
  alignas(line_bytes) std::byte near[32 * line_bytes];
  for (int i = 0; i < 32; ++i)
    _mm512_store_si512(near + i * line_bytes, _mm512_loadu_si512(from + i * row_step));
  constexpr int features = 8;
  for (int first = 0; first < block_rows; first += features) {
    ahead.bring(part(lines, block_rows / features, first / features).size());
    __m512i row[8];
    for (int i = 0; i < 8; ++i) {
      const auto piece = [&](int lane) {
        const std::byte* at = near + (8 * lane + i) * line_bytes + first * 2;
        return _mm_load_si128(reinterpret_cast<const __m128i*>(at));
      };
      row[i] = _mm512_castsi128_si512(piece(0));
      row[i] = _mm512_inserti32x4(row[i], piece(1), 1);
      row[i] = _mm512_inserti32x4(row[i], piece(2), 2);
      row[i] = _mm512_inserti32x4(row[i], piece(3), 3);
    }
    __m512i pair[8], four[8];
    for (int i = 0; i < 4; ++i) {
      pair[i] = _mm512_unpacklo_epi16(row[2 * i], row[2 * i + 1]);
      pair[4 + i] = _mm512_unpackhi_epi16(row[2 * i], row[2 * i + 1]);
    }
    for (int i = 0; i < 8; i += 2) {
      four[i] = _mm512_unpacklo_epi32(pair[i], pair[i + 1]);
      four[i + 1] = _mm512_unpackhi_epi32(pair[i], pair[i + 1]);
    }
    std::byte* out = to + first * line_bytes;
    for (int i = 0; i < 8; i += 4)  // features i .. i + 3
      for (int j = 0; j < 2; ++j) {
        const __m512i low = four[i + j], high = four[i + 2 + j];
        _mm512_storeu_si512(out + (i + 2 * j) * line_bytes, _mm512_unpacklo_epi64(low, high));
        _mm512_storeu_si512(out + (i + 2 * j + 1) * line_bytes, _mm512_unpackhi_epi64(low, high));
      }
  }
}

}  // namespace tandem::cpu
