#include "tandem/train/corpus.h"

#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <system_error>
#include <vector>

#include "tandem/base/error.h"

namespace tandem {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

using Document = std::function<void(std::string_view)>;

// Reads a file piece by piece; zlib passes through what is not gzipped.
class TextFile {
 public:
  TextFile(const fs::path& path, bool gzipped) : path_(path) {
    errno = 0;
    file_.reset(gzopen(path.c_str(), "rb"));
    if (!file_) {
      if (errno == ENOENT) throw InputError("{}: no such file", path.string());
      if (errno == EACCES) throw InputError("{}: permission denied", path.string());
      throw_errno(fmt::format("cannot read {}", path.string()));
    }
    gzbuffer(file_.get(), 1 << 18);
    if (gzipped && gzdirect(file_.get()) && !fs::is_empty(path))
      throw InputError("{}: not a gzip file", path.string());
  }

  // Appends the next piece to `text`; false at the end of the file.
  bool read(std::string& text) {
    constexpr unsigned piece_bytes = 1 << 18;
    const size_t before = text.size();
    text.resize(before + piece_bytes);
    const int count = gzread(file_.get(), text.data() + before, piece_bytes);
    text.resize(before + std::max(0, count));
    if (count < static_cast<int>(piece_bytes)) check();
    return count > 0;
  }

 private:
  struct Close {
    void operator()(gzFile file) const { gzclose_r(file); }
  };

  // A cut gzip file shows only here: zlib hands out what it has and then reports Z_BUF_ERROR.
  void check() {
    int code = Z_OK;
    const char* message = gzerror(file_.get(), &code);
    if (code == Z_OK || code == Z_STREAM_END) return;
    if (code == Z_ERRNO) throw_errno(fmt::format("cannot read {}", path_.string()));
    if (code == Z_BUF_ERROR) throw InputError("{}: the gzip file is cut short", path_.string());
    throw InputError("{}: the gzip file is corrupted ({})", path_.string(), message);
  }

  fs::path path_;
  std::unique_ptr<std::remove_pointer_t<gzFile>, Close> file_;
};

// The "text" of one line of JSON.
std::string text_of_line(std::string_view line, const fs::path& path, int64_t number) {
  json value;
  try {
    value = json::parse(line);
  } catch (const json::parse_error& error) {
    throw InputError("{}: line {}: not valid JSON at byte {}", path.string(), number, error.byte);
  }
  if (!value.is_object())
    throw InputError("{}: line {}: not a JSON object with a \"text\" field", path.string(), number);
  const auto text = value.find("text");
  if (text == value.end())
    throw InputError("{}: line {}: no \"text\" field", path.string(), number);
  if (!text->is_string())
    throw InputError("{}: line {}: \"text\" is not a string", path.string(), number);
  return std::move(text->get_ref<std::string&>());
}

int64_t read_json_lines(TextFile& file, const fs::path& path, const Document& document) {
  int64_t documents = 0;
  int64_t number = 0;
  const auto take_line = [&](std::string_view line) {
    ++number;
    if (line.find_first_not_of(" \t\r") == line.npos) return;
    const std::string text = text_of_line(line, path, number);
    if (text.empty()) return;
    document(text);
    ++documents;
  };
  std::string pending;  // what was read and not yet taken
  size_t searched = 0;
  while (file.read(pending)) {
    size_t begin = 0;
    for (size_t end; (end = pending.find('\n', searched)) != pending.npos; searched = begin) {
      take_line(std::string_view(pending).substr(begin, end - begin));
      begin = end + 1;
    }
    pending.erase(0, begin);
    searched = pending.size();
  }
  if (!pending.empty()) take_line(pending);
  return documents;
}

int64_t read_plain_text(TextFile& file, const fs::path& path, const Document& document) {
  std::string text;
  while (file.read(text)) continue;
  if (text.find('\0') != text.npos)
    throw InputError("{}: not a text file (it has a zero byte)", path.string());
  if (text.empty()) return 0;
  document(text);
  return 1;
}

int64_t read_file(const fs::path& path, const Document& document) {
  const bool gzipped = path.extension() == ".gz";
  const fs::path kind = gzipped ? path.stem().extension() : path.extension();
  TextFile file(path, gzipped);
  if (kind == ".json" || kind == ".jsonl") return read_json_lines(file, path, document);
  return read_plain_text(file, path, document);
}

// The files of a folder by name, hidden ones left out.
std::vector<fs::path> files_of(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder))
    if (entry.is_regular_file() && !entry.path().filename().string().starts_with('.'))
      files.push_back(entry.path());
  std::ranges::sort(files);
  return files;
}

}  // namespace

int64_t read_corpus(const fs::path& path, const Document& document) try {
  if (!fs::exists(path)) throw InputError("{}: no such file or folder", path.string());
  int64_t documents = 0;
  if (fs::is_directory(path)) {
    for (const fs::path& file : files_of(path)) documents += read_file(file, document);
  } else {
    documents = read_file(path, document);
  }
  if (documents == 0) throw InputError("{}: no text in it", path.string());
  return documents;
} catch (const fs::filesystem_error& error) {
  throw WorldError("cannot read {}: {}", path.string(), error.code().message());
}

}  // namespace tandem
