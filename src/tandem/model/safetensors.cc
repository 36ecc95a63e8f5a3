#include "tandem/model/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "tandem/base/error.h"

namespace tandem {

namespace {

// The file is the user's choice, so what goes wrong with it is an InputError.
[[noreturn]] void refuse(const std::filesystem::path& path) {
  throw InputError("{}: cannot be read: {}", path.string(), std::strerror(errno));
}

std::span<const std::byte> map_file(const std::filesystem::path& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) refuse(path);
  struct stat status {};
  void* address = nullptr;
  int error = 0;
  if (::fstat(file, &status) != 0) {
    error = errno;
  } else if (!S_ISREG(status.st_mode)) {
    error = EINVAL;  // a directory, a pipe: nothing to map
  } else if (status.st_size > 0) {
    address = ::mmap(nullptr, static_cast<size_t>(status.st_size), PROT_READ, MAP_SHARED, file, 0);
    if (address == MAP_FAILED) error = errno;
  }
  ::close(file);  // the mapping keeps the file open
  if (error != 0) {
    errno = error;
    refuse(path);
  }
  return {static_cast<const std::byte*>(address), static_cast<size_t>(status.st_size)};
}

void unmap(std::span<const std::byte> mapping) {
  if (mapping.data()) ::munmap(const_cast<std::byte*>(mapping.data()), mapping.size());
}

}  // namespace

SafetensorsFile::SafetensorsFile(std::filesystem::path path)
    : path_(std::move(path)), mapping_(map_file(path_)) {
  try {
    header_ = parse_safetensors(mapping_, path_.string());
    by_name_.reserve(header_.tensors.size());
    for (const StoredTensor& tensor : header_.tensors) by_name_[tensor.name] = &tensor;
  } catch (...) {
    unmap(mapping_);
    throw;
  }
}

SafetensorsFile::~SafetensorsFile() { unmap(mapping_); }

SafetensorsFile::SafetensorsFile(SafetensorsFile&& other) noexcept
    : path_(std::move(other.path_)),
      mapping_(std::exchange(other.mapping_, {})),
      header_(std::move(other.header_)),  // tensors keep their addresses
      by_name_(std::move(other.by_name_)) {}

const StoredTensor* SafetensorsFile::find(std::string_view name) const {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : it->second;
}

void SafetensorsFile::release_pages(const StoredTensor& tensor) const {
  if (tensor.bytes.empty()) return;
  // Whole pages, so a neighbour may lose its first or last one: it comes back from the file.
  const uintptr_t page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const uintptr_t begin = reinterpret_cast<uintptr_t>(tensor.data) / page * page;
  const uintptr_t end = reinterpret_cast<uintptr_t>(tensor.data) + tensor.bytes.size();
  // Advice: where the system does not take it, memory stays in use and nothing else happens.
  (void)::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

}  // namespace tandem
