#include "tandem/trace/perfetto.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <numeric>
#include <system_error>
#include <utility>

#include "tandem/base/error.h"

namespace tandem {
namespace {

constexpr int lane_count = 4;

// A JSON string with its quotes. Bytes that are not UTF-8 are replaced: viewers refuse them.
std::string json_string(std::string_view text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

// The file being written: pieces of text go to a buffer, and every failure ends in a WorldError.
class TraceFile {
 public:
  explicit TraceFile(const std::filesystem::path& path)
      : path_(path), file_(std::fopen(path.c_str(), "wb")) {
    if (!file_) throw_errno(fmt::format("cannot write {}", path_.string()));
  }
  // Closed here only when writing failed; half a trace helps nobody. What is no plain file stays.
  ~TraceFile() {
    if (!file_) return;
    std::fclose(file_);
    std::error_code ignored;
    if (std::filesystem::is_regular_file(path_, ignored)) std::filesystem::remove(path_, ignored);
  }
  TraceFile(const TraceFile&) = delete;
  TraceFile& operator=(const TraceFile&) = delete;

  void event(std::string_view json) {
    text_ += first_ ? "\n" : ",\n";
    text_ += json;
    first_ = false;
    if (text_.size() >= 1 << 20) flush();
  }
  void begin() { text_ += R"({"displayTimeUnit":"ms","traceEvents":[)"; }
  void finish() {
    text_ += "\n]}\n";
    flush();
    if (std::fflush(file_) != 0) fail();
    if (std::fclose(std::exchange(file_, nullptr)) != 0) fail();
  }

 private:
  void flush() {
    if (std::fwrite(text_.data(), 1, text_.size(), file_) != text_.size()) fail();
    text_.clear();
  }
  [[noreturn]] void fail() { throw_errno(fmt::format("cannot write {}", path_.string())); }

  std::filesystem::path path_;
  std::FILE* file_;
  std::string text_;
  bool first_ = true;
};

// Viewers want the events of a thread to nest. Spans that overlap others of their lane (messages
// under way at the same time) are spread over further threads, the first one that is free.
class Threads {
 public:
  // Spans in the order of their starts.
  int of(const Span& span) {
    const int lane = static_cast<int>(span.lane);
    auto& free_at = free_at_seconds_[lane];
    auto row = std::ranges::find_if(free_at, [&](double t) { return t <= span.start_seconds; });
    if (row == free_at.end()) row = free_at.insert(free_at.end(), 0.0);
    *row = std::max(span.start_seconds, span.end_seconds);
    return lane + lane_count * static_cast<int>(row - free_at.begin());
  }
  int rows(int lane) const { return static_cast<int>(free_at_seconds_[lane].size()); }

 private:
  std::array<std::vector<double>, lane_count> free_at_seconds_;
};

void write_metadata(TraceFile& file, const RankSpans& rank, const Threads& threads) {
  const auto write = [&](std::string_view what, int tid, const std::string& args) {
    file.event(fmt::format(R"({{"ph":"M","name":"{}","pid":{},"tid":{},"args":{{{}}}}})", what,
                           rank.rank, tid, args));
  };
  write("process_name", 0, fmt::format(R"("name":{})", json_string(rank_title(rank))));
  write("process_sort_index", 0, fmt::format(R"("sort_index":{})", rank.rank));
  for (int lane = 0; lane < lane_count; ++lane) {
    for (int row = 0; row < threads.rows(lane); ++row) {
      const int tid = lane + lane_count * row;
      std::string name(lane_name(static_cast<Lane>(lane)));
      if (row > 0) name += fmt::format(" ({})", row + 1);
      write("thread_name", tid, fmt::format(R"("name":{})", json_string(name)));
      write("thread_sort_index", tid, fmt::format(R"("sort_index":{})", lane * 10'000 + row));
    }
  }
}

void write_span(TraceFile& file, const Span& span, int rank, int tid, double origin_seconds) {
  // Microseconds with a thousandth: finer than any clock we read.
  std::string json = fmt::format(
      R"({{"ph":"X","name":{},"cat":"{}","pid":{},"tid":{},"ts":{:.3f},"dur":{:.3f},"args":{{)",
      json_string(span.name), lane_name(span.lane), rank, tid,
      (span.start_seconds - origin_seconds) * 1e6,
      std::max(0.0, span.end_seconds - span.start_seconds) * 1e6);
  auto out = std::back_inserter(json);
  fmt::format_to(out, R"("flops":{:.0f},"bytes":{:.0f})", span.cost.flops, span.cost.bytes);
  if (span.layer >= 0) fmt::format_to(out, R"(,"layer":{})", span.layer);
  if (span.micro_batch >= 0) fmt::format_to(out, R"(,"micro_batch":{})", span.micro_batch);
  if (span.peer >= 0) fmt::format_to(out, R"(,"peer":{})", span.peer);
  if (span.kind != MessageKind::none)
    fmt::format_to(out, R"(,"kind":"{}")", message_kind_name(span.kind));
  if (span.backward) json += R"(,"backward":true)";
  json += "}}";
  file.event(json);
}

}  // namespace

void write_perfetto(const std::filesystem::path& path, std::span<const RankSpans> ranks) {
  const double origin_seconds = whole_window(ranks).begin_seconds;
  TraceFile file(path);
  file.begin();
  std::vector<size_t> order;
  for (const RankSpans& rank : ranks) {
    order.resize(rank.spans.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::ranges::stable_sort(order, {}, [&](size_t i) { return rank.spans[i].start_seconds; });
    Threads threads;
    for (size_t i : order)
      write_span(file, rank.spans[i], rank.rank, threads.of(rank.spans[i]), origin_seconds);
    write_metadata(file, rank, threads);
  }
  file.finish();
}

}  // namespace tandem
