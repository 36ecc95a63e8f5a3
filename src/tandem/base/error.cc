#include "tandem/base/error.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace tandem {

void throw_errno(std::string_view what) { throw WorldError("{}: {}", what, std::strerror(errno)); }

void broken_invariant(const char* file, int line, const char* condition, std::string_view message) {
  std::fprintf(stderr, "tandem: broken invariant at %s:%d: %s (%.*s)\n", file, line, condition,
               static_cast<int>(message.size()), message.data());
  std::abort();
}

}  // namespace tandem
