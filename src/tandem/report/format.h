// Quantities as people read them. Pure functions, safe from any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tandem {

// Three significant digits and a decimal prefix: "1.50 TFLOP/s" for (1.5e12, "FLOP/s").
std::string format_si(double value, std::string_view unit);

std::string format_bytes(double bytes);      // "512 B", "1.50 kB", "16.0 GB"; powers of 1000
std::string format_seconds(double seconds);  // "850 ns", "1.23 ms", "2 min 5 s", "3 h 4 min"
std::string format_count(int64_t count);     // "1,234,567"
std::string format_share(double share);      // "12.3 %" for 0.123
std::string format_number(double value);     // four significant digits, no exponent for 1e-4..1e7

}  // namespace tandem
