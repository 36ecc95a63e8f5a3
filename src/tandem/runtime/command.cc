#include "tandem/runtime/command.h"

#include <cstring>

#include "tandem/base/error.h"

namespace tandem {
namespace {

// One description of each struct serves both directions.
class Writer {
 public:
  template <class T>
  requires std::is_arithmetic_v<T> || std::is_enum_v<T>
  void operator()(const T& value) {
    constexpr size_t words = (sizeof(T) + 3) / 4;
    const size_t at = out.size();
    out.resize(at + words);
    std::memcpy(&out[at], &value, sizeof(T));
  }
  template <class T>
  void operator()(const std::vector<T>& values) {
    (*this)(std::span<const T>(values));
  }
  template <class T>
  void operator()(std::span<const T> values) {
    static_assert(sizeof(T) == 4);
    (*this)(static_cast<int32_t>(values.size()));
    out.insert(out.end(), reinterpret_cast<const int32_t*>(values.data()),
               reinterpret_cast<const int32_t*>(values.data()) + values.size());
  }
  void operator()(const std::string& text) { (*this)(std::span<const char>(text)); }
  // Text takes a word for every four bytes.
  void operator()(std::span<const char> text) {
    (*this)(static_cast<int32_t>(text.size()));
    const size_t at = out.size();
    out.resize(at + (text.size() + 3) / 4);
    if (!text.empty()) std::memcpy(&out[at], text.data(), text.size());
  }
  std::vector<int32_t> out;
};

class Reader {
 public:
  explicit Reader(std::span<const int32_t> words) : words_(words) {}
  template <class T>
  requires std::is_arithmetic_v<T> || std::is_enum_v<T>
  void operator()(T& value) { std::memcpy(&value, take((sizeof(T) + 3) / 4), sizeof(T)); }
  template <class T>
  void operator()(std::vector<T>& values) {
    int32_t size = 0;
    (*this)(size);
    values.resize(size);
    if (size > 0) std::memcpy(values.data(), take(size), 4 * values.size());
  }
  template <class T>
  void operator()(std::span<const T>& values) {
    static_assert(sizeof(T) == 4);
    int32_t size = 0;
    (*this)(size);
    values = {reinterpret_cast<const T*>(take(size)), static_cast<size_t>(size)};
  }
  void operator()(std::string& text) {
    int32_t size = 0;
    (*this)(size);
    const auto* bytes = reinterpret_cast<const char*>(take((size + 3) / 4));
    text.assign(bytes, size);
  }

 private:
  const int32_t* take(size_t count) {
    TANDEM_CHECK(count <= words_.size(), "a command of {} words too few", count - words_.size());
    const int32_t* at = words_.data();
    words_ = words_.subspan(count);
    return at;
  }
  std::span<const int32_t> words_;
};

template <class Archive, class Work>
void describe_work(Archive& a, Work& w) {
  a(w.slot), a(w.copy), a(w.home), a(w.micro_batch), a(w.group), a(w.first_position), a(w.sample);
  a(w.sampling.temperature), a(w.sampling.top_k), a(w.sampling.top_p), a(w.sampling.seed);
  a(w.sampling.position), a(w.tokens), a(w.targets), a(w.weights);
}

template <class Archive, class Step>
void describe_step(Archive& a, Step& s) {
  a(s.step), a(s.learning_rate), a(s.beta1), a(s.beta2), a(s.epsilon), a(s.weight_decay);
  a(s.clip_norm), a(s.groups), a(s.seed), a(s.checkpoint_activations), a(s.coding);
}

template <class Archive, class C>
void describe_command(Archive& a, C& c) {
  a(c.kind), a(c.slots), a(c.tokens_per_slot), a(c.want_logits), a(c.record_routing),
      a(c.forget_spans), describe_step(a, c.training);
  a(c.released), a(c.ranks), a(c.sources), a(c.piece_state), a(c.first_piece), a(c.end_piece);
  a(c.plan), a(c.moves_weights);
  for (auto& work : c.sequences) describe_work(a, work);
}

template <class Archive, class R>
void describe_report(Archive& a, R& r) {
  a(r.failed), a(r.lost_peer), a(r.cache_bytes), a(r.peak_bytes), a(r.slots), a(r.tokens),
      a(r.loss_sum), a(r.balance_loss), a(r.z_loss);
  a(r.token_weight), a(r.gradient_norm), a(r.expert_tokens), a(r.routing), a(r.attention_seconds),
      a(r.expert_seconds);
}

}  // namespace

std::vector<int32_t> to_words(const Command& command) {
  Writer writer;
  writer(static_cast<int32_t>(command.sequences.size()));
  describe_command(writer, command);
  return std::move(writer.out);
}

void from_words(std::span<const int32_t> words, Command& command) {
  Reader reader(words);
  int32_t sequences = 0;
  reader(sequences);
  command.sequences.resize(sequences);
  describe_command(reader, command);
}

void to_words(const Report& report, std::vector<int32_t>& words) {
  words.clear();
  Writer writer{std::move(words)};
  describe_report(writer, report);
  writer(std::span(report.error));
  words = std::move(writer.out);
}

void from_words(std::span<const int32_t> words, Report& report) {
  Reader reader(words);
  describe_report(reader, report);
  reader(report.error);
}

void Report::clear() {
  Report fresh;
  fresh.slots.swap(slots), fresh.tokens.swap(tokens), fresh.expert_tokens.swap(expert_tokens);
  fresh.attention_seconds.swap(attention_seconds), fresh.expert_seconds.swap(expert_seconds);
  *this = std::move(fresh);
  slots.clear(), tokens.clear(), expert_tokens.clear();
  attention_seconds.clear(), expert_seconds.clear();
}

}  // namespace tandem
