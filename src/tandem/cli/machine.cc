#include "tandem/cli/machine.h"

#include <fmt/format.h>

#include <fstream>
#include <thread>

namespace tandem::cli {

std::string machine_name() {
  std::ifstream info("/proc/cpuinfo");
  std::string processor = "unknown processor";
  for (std::string line; std::getline(info, line);) {
    if (!line.starts_with("model name")) continue;
    const size_t value = line.find(": ");
    if (value != std::string::npos) processor = line.substr(value + 2);
    break;
  }
  const unsigned cores = std::thread::hardware_concurrency();
  return fmt::format("{}, {} core{}", processor, cores, cores == 1 ? "" : "s");
}

int64_t memory_bytes(const std::string& line) {
  std::ifstream info("/proc/meminfo");
  for (std::string key; info >> key;) {
    int64_t kilobytes = 0;
    if (key == line + ":" && info >> kilobytes) return kilobytes * 1024;
  }
  return 0;
}

}  // namespace tandem::cli
