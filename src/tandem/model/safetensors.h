// Safetensors files: read through a mapping, written in place.
//
// The format: 8 bytes length of the header (little endian), the header (a JSON object from tensor
// name to dtype, shape and byte range), then the data, which the tensors cover without gap.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tandem/base/interval.h"

namespace tandem {

enum class StoredType : uint8_t {
  f64,
  f32,
  f16,
  bf16,
  f8_e4m3,
  f8_e5m2,
  i64,
  i32,
  i16,
  i8,
  u64,
  u32,
  u16,
  u8,
  boolean,
};

std::string_view stored_type_name(StoredType type);  // as in a header: "F32", "BF16", ...
std::optional<StoredType> stored_type(std::string_view name);
int64_t size_of(StoredType type);

struct StoredTensor {
  std::string name;
  StoredType dtype = StoredType::f32;
  std::vector<int64_t> shape;
  Interval bytes;                   // within the data, which starts at data_offset of the file
  const std::byte* data = nullptr;  // of any alignment: foreign writers may not align

  int64_t elements() const;
};

struct SafetensorsHeader {
  std::vector<StoredTensor> tensors;  // in the order of their bytes
  std::map<std::string, std::string> metadata;
  int64_t data_offset = 0;  // bytes from the start of the file
};

// Reads a whole file in memory; data pointers point into it. InputError, with `where` as the name
// of the file, unless the file is sound in every respect.
SafetensorsHeader parse_safetensors(std::span<const std::byte> file, const std::string& where);

// A file of somebody's, mapped read-only for as long as this lives.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(std::filesystem::path path);  // InputError naming the file
  ~SafetensorsFile();
  SafetensorsFile(SafetensorsFile&& other) noexcept;
  SafetensorsFile& operator=(SafetensorsFile&&) = delete;

  const std::filesystem::path& path() const { return path_; }
  const std::vector<StoredTensor>& tensors() const { return header_.tensors; }
  const std::map<std::string, std::string>& metadata() const { return header_.metadata; }
  int64_t data_offset() const { return header_.data_offset; }
  int64_t file_bytes() const { return static_cast<int64_t>(mapping_.size()); }
  const StoredTensor* find(std::string_view name) const;  // null where there is none

  // Lets the pages of a tensor go: they are read again from the file when next touched.
  void release_pages(const StoredTensor& tensor) const;

 private:
  std::filesystem::path path_;
  std::span<const std::byte> mapping_;
  SafetensorsHeader header_;
  std::unordered_map<std::string_view, const StoredTensor*> by_name_;
};

struct TensorToStore {
  std::string name;
  StoredType dtype = StoredType::f32;
  std::vector<int64_t> shape;
};

// A new file of known contents, whose tensors are then written piece by piece, from any thread.
// Space is reserved at once, so that a full disk is found before anything is computed. Data starts
// at a multiple of 64 bytes; tensors of wide types come first, so that each is aligned to its type.
// Every failure is a WorldError with errno's text and the file. What an unfinished writer leaves
// behind is the caller's: use a temporary name and rename after close().
class SafetensorsWriter {
 public:
  SafetensorsWriter(std::filesystem::path path, const std::vector<TensorToStore>& tensors,
                    const std::map<std::string, std::string>& metadata = {});
  ~SafetensorsWriter();
  SafetensorsWriter(const SafetensorsWriter&) = delete;
  SafetensorsWriter& operator=(const SafetensorsWriter&) = delete;

  const std::filesystem::path& path() const { return path_; }
  int64_t file_bytes() const { return file_bytes_; }
  Interval range(std::string_view name) const;  // a tensor's bytes, from the start of the file

  void write(std::string_view name, int64_t offset_in_tensor,
             std::span<const std::byte> bytes) const;
  void sync() const;  // to the disk
  void close();       // sync, and the last errors; nothing can be written afterwards

 private:
  void create(const std::string& header);
  void write_at(int64_t offset, std::span<const std::byte> bytes) const;

  std::filesystem::path path_;
  int file_ = -1;
  int64_t file_bytes_ = 0;
  std::map<std::string, Interval, std::less<>> ranges_;
};

}  // namespace tandem
