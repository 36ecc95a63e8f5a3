// Sanitized builds are slow: there, tests that ask about numbers alone, or take their time to
// reach a limit, try less.
#pragma once

namespace tandem {

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
inline constexpr bool sanitized = true;
#else
inline constexpr bool sanitized = false;
#endif

}  // namespace tandem
