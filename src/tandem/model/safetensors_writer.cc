#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "tandem/base/error.h"
#include "tandem/model/safetensors.h"

namespace tandem {

namespace {

constexpr int64_t data_alignment = 64;

int64_t bytes_of(const TensorToStore& tensor) {
  int64_t bytes = size_of(tensor.dtype);
  for (const int64_t n : tensor.shape) {
    TANDEM_CHECK(n >= 0 && !__builtin_mul_overflow(bytes, n, &bytes), "shape of {}", tensor.name);
  }
  return bytes;
}

[[noreturn]] void fail(const char* what, const std::filesystem::path& path) {
  throw_errno(fmt::format("cannot {} {}", what, path.string()));
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(std::filesystem::path path,
                                     const std::vector<TensorToStore>& tensors,
                                     const std::map<std::string, std::string>& metadata)
    : path_(std::move(path)) {
  std::vector<const TensorToStore*> in_order;
  for (const TensorToStore& tensor : tensors) in_order.push_back(&tensor);
  std::stable_sort(in_order.begin(), in_order.end(),
                   [](const TensorToStore* a, const TensorToStore* b) {
                     return size_of(a->dtype) > size_of(b->dtype);
                   });

  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  int64_t end = 0;
  for (const TensorToStore* tensor : in_order) {
    const Interval bytes{end, end + bytes_of(*tensor)};
    const bool fresh = ranges_.emplace(tensor->name, bytes).second;
    TANDEM_CHECK(fresh, "tensor {} is there twice", tensor->name);
    header[tensor->name] = {{"dtype", stored_type_name(tensor->dtype)},
                            {"shape", tensor->shape},
                            {"data_offsets", {bytes.begin, bytes.end}}};
    end = bytes.end;
  }
  std::string text = header.dump();
  const int64_t unpadded = static_cast<int64_t>(sizeof(uint64_t) + text.size());
  const int64_t data_offset = (unpadded + data_alignment - 1) / data_alignment * data_alignment;
  text.append(static_cast<size_t>(data_offset - unpadded), ' ');
  for (auto& [name, bytes] : ranges_) bytes = bytes.shifted(data_offset);
  file_bytes_ = data_offset + end;
  create(text);
}

void SafetensorsWriter::create(const std::string& header) {
  file_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file_ < 0) fail("create", path_);
  try {
    int error = EINTR;  // posix_fallocate returns its error instead of setting errno
    while (error == EINTR) error = ::posix_fallocate(file_, 0, file_bytes_);
    if (error != 0) {
      errno = error;
      fail(fmt::format("reserve {} bytes for", file_bytes_).c_str(), path_);
    }
    const uint64_t length = header.size();
    write_at(0, std::as_bytes(std::span(&length, 1)));
    write_at(sizeof length, std::as_bytes(std::span(header)));
  } catch (...) {
    ::close(std::exchange(file_, -1));
    throw;
  }
}

SafetensorsWriter::~SafetensorsWriter() {
  if (file_ >= 0) ::close(file_);
}

Interval SafetensorsWriter::range(std::string_view name) const {
  const auto it = ranges_.find(name);
  TANDEM_CHECK(it != ranges_.end(), "no tensor {} in {}", name, path_.string());
  return it->second;
}

void SafetensorsWriter::write(std::string_view name, int64_t offset_in_tensor,
                              std::span<const std::byte> bytes) const {
  const Interval whole = range(name);
  const int64_t size = static_cast<int64_t>(bytes.size());
  TANDEM_CHECK(offset_in_tensor >= 0 && offset_in_tensor <= whole.size() - size,
               "{} bytes at {} of the {} bytes of {}", size, offset_in_tensor, whole.size(), name);
  write_at(whole.begin + offset_in_tensor, bytes);
}

void SafetensorsWriter::write_at(int64_t offset, std::span<const std::byte> bytes) const {
  TANDEM_CHECK(file_ >= 0, "{} is closed", path_.string());
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(file_, bytes.data(), bytes.size(), offset);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("write", path_);
    bytes = bytes.subspan(static_cast<size_t>(written));
    offset += written;
  }
}

void SafetensorsWriter::sync() const {
  TANDEM_CHECK(file_ >= 0, "{} is closed", path_.string());
  if (::fsync(file_) != 0) fail("sync", path_);
}

void SafetensorsWriter::close() {
  sync();
  if (::close(std::exchange(file_, -1)) != 0) fail("close", path_);
}

}  // namespace tandem
