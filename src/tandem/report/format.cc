#include "tandem/report/format.h"

#include <fmt/format.h>

#include <array>
#include <cmath>

namespace tandem {
namespace {

// 1.50, 15.0, 150: three significant digits of a magnitude in [1, 1000).
std::string three_digits(double value) {
  const double size = std::abs(value);
  if (size < 9.995) return fmt::format("{:.2f}", value);
  if (size < 99.95) return fmt::format("{:.1f}", value);
  return fmt::format("{:.0f}", value);
}

std::string with_unit(std::string number, std::string_view prefix, std::string_view unit) {
  if (prefix.empty() && unit.empty()) return number;
  return fmt::format("{} {}{}", number, prefix, unit);
}

}  // namespace

std::string format_si(double value, std::string_view unit) {
  constexpr std::array<std::string_view, 10> prefixes{"n", "u", "m", "",  "k",
                                                      "M", "G", "T", "P", "E"};
  if (!std::isfinite(value)) return with_unit(fmt::format("{}", value), "", unit);
  if (std::abs(value) < 0.5e-9) return with_unit("0", "", unit);
  size_t prefix = 3;
  double scaled = value;
  for (; std::abs(scaled) >= 999.5 && prefix + 1 < prefixes.size(); ++prefix) scaled /= 1000;
  for (; std::abs(scaled) < 0.9995 && prefix > 0; --prefix) scaled *= 1000;
  return with_unit(three_digits(scaled), prefixes[prefix], unit);
}

std::string format_bytes(double bytes) {
  if (std::abs(bytes) < 999.5) return fmt::format("{:.0f} B", bytes);
  return format_si(bytes, "B");
}

std::string format_seconds(double seconds) {
  if (!std::isfinite(seconds) || std::abs(seconds) < 59.95) return format_si(seconds, "s");
  if (seconds < 0) return fmt::format("-{}", format_seconds(-seconds));
  const auto whole = static_cast<int64_t>(std::llround(seconds));
  if (whole < 3600) return fmt::format("{} min {} s", whole / 60, whole % 60);
  const int64_t minutes = (whole + 30) / 60;
  return fmt::format("{} h {} min", minutes / 60, minutes % 60);
}

std::string format_count(int64_t count) {
  std::string digits = fmt::format("{}", count);
  const size_t first = digits.front() == '-' ? 1 : 0;
  for (size_t at = digits.size(); at > first + 3;) digits.insert(at -= 3, 1, ',');
  return digits;
}

std::string format_share(double share) { return fmt::format("{:.1f} %", share * 100); }

std::string format_number(double value) {
  const double size = std::abs(value);
  if (size != 0 && (size < 1e-4 || size >= 1e7)) return fmt::format("{:.3e}", value);
  if (size >= 9999.5) return fmt::format("{:.0f}", value);
  return fmt::format("{:.4g}", value);
}

}  // namespace tandem
