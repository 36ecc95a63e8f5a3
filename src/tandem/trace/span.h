// A span is one operation or message on one rank: what every figure Tandem reports is made of.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace tandem {

// What an operation has to do at the least: its own bound on any device follows from it.
struct Cost {
  double flops = 0;
  double bytes = 0;  // read and written once each
  Cost& operator+=(const Cost& other) {
    flops += other.flops;
    bytes += other.bytes;
    return *this;
  }
  friend bool operator==(const Cost&, const Cost&) = default;
};

// Rows of a timeline: a rank computes for one of its two groups, waits, or has a message under way.
enum class Lane : uint8_t { attention, expert, wait, message };
std::string_view lane_name(Lane lane);

// What a message is for; communication shares are told by kind.
enum class MessageKind : uint8_t {
  none,        // not a message
  attention,   // gather of rows, head outputs, partial sums, mirrored K/V
  dispatch,    // rows to experts
  combine,     // rows back from experts
  pipeline,    // rows to the next stage
  vocabulary,  // embedding rows, logits
  gradient,    // sums of gradients, updated parameters
  control,     // step commands and their results
};
std::string_view message_kind_name(MessageKind kind);

struct Span {
  const char* name = "";  // static text
  Lane lane = Lane::attention;
  MessageKind kind = MessageKind::none;
  bool backward = false;
  int16_t layer = -1;
  int16_t micro_batch = -1;
  int32_t peer = -1;
  double start_seconds = 0;
  double end_seconds = 0;
  Cost cost;
};

// The spans of one rank, used by the rank's own thread alone. Keeps the newest: when it is full the
// older half is let go, so that a rank that runs for days neither allocates nor grows.
class Recorder {
 public:
  explicit Recorder(int rank) : rank_(rank) { spans_.reserve(capacity); }

  int rank() const { return rank_; }
  void add(const Span& span) {
    if (spans_.size() == capacity && !keeps_all_) forget_older_half();
    spans_.push_back(span);
    if (span.lane <= Lane::expert) add_busy(span);
  }
  const std::vector<Span>& spans() const { return spans_; }
  void clear() { spans_.clear(); }

  // Seconds of operations since they were last forgotten, in the lane of attention or of experts:
  // of none of the layers, of layer 0, 1, ...
  std::span<const float> busy_seconds(Lane lane) const { return busy_[static_cast<size_t>(lane)]; }
  void forget_busy() {
    for (auto& layers : busy_) std::ranges::fill(layers, 0.0f);
  }
  void keep_all() { keeps_all_ = true; }  // for the trace of a whole run

 private:
  static constexpr size_t capacity = 1 << 17;
  void forget_older_half();
  void add_busy(const Span& span) {
    auto& layers = busy_[static_cast<size_t>(span.lane)];
    const auto at = static_cast<size_t>(span.layer + 1);
    if (at >= layers.size()) layers.resize(at + 1);
    layers[at] += static_cast<float>(span.end_seconds - span.start_seconds);
  }

  int rank_;
  bool keeps_all_ = false;
  std::vector<Span> spans_;
  std::array<std::vector<float>, 2> busy_;  // by lane: by layer + 1
};

}  // namespace tandem
