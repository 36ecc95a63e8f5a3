#include "tandem/base/durable.h"

#include <fcntl.h>
#include <unistd.h>

#include <fstream>

#include "tandem/base/error.h"

namespace tandem {
namespace {

void sync_path(const std::filesystem::path& path, int flags) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | flags);
  if (file < 0) throw_errno("cannot open " + path.string());
  const bool good = fsync(file) == 0;
  close(file);
  if (!good) throw_errno("cannot sync " + path.string());
}

}  // namespace

void write_durably(const std::filesystem::path& file, const std::string& text) {
  std::ofstream stream(file);
  stream << text;
  stream.close();
  if (!stream) throw_errno("cannot write " + file.string());
  sync_path(file, 0);
}

void sync_directory(const std::filesystem::path& directory) { sync_path(directory, O_DIRECTORY); }

}  // namespace tandem
