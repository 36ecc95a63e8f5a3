// Three kinds of trouble, three ways out (CONTRIBUTING.md, "Errors"):
//   what a user can cause     -> throw InputError; the program prints one line and exits with 2
//   what the world can cause  -> WorldError, a value kept by the caller (a full disk, a lost peer)
//   what only a bug can cause -> TANDEM_CHECK, stops the program and names the place
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <string_view>

namespace tandem {

// A mistake in what the user gave: the message names the file, field, rank or layer.
class InputError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
  template <class... Args>
  explicit InputError(fmt::format_string<Args...> format, Args&&... args)
      : std::runtime_error(fmt::format(format, std::forward<Args>(args)...)) {}
};

// Something outside the program failed. Thrown where a call stack must unwind, caught at the step,
// the checkpoint or the command, which decides what goes on.
class WorldError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
  template <class... Args>
  explicit WorldError(fmt::format_string<Args...> format, Args&&... args)
      : std::runtime_error(fmt::format(format, std::forward<Args>(args)...)) {}
};

// A WorldError that carries errno's text: "cannot write FILE: No space left on device".
[[noreturn]] void throw_errno(std::string_view what);

[[noreturn]] void broken_invariant(const char* file, int line, const char* condition,
                                   std::string_view message);

}  // namespace tandem

#define TANDEM_CHECK(condition, ...)                                                        \
  do {                                                                                      \
    if (!(condition)) [[unlikely]]                                                          \
      ::tandem::broken_invariant(__FILE__, __LINE__, #condition, fmt::format(__VA_ARGS__)); \
  } while (false)
