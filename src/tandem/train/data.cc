#include "tandem/train/data.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "tandem/base/error.h"
#include "tandem/base/random.h"

namespace tandem {
namespace {

constexpr int64_t few_documents = 10;  // with fewer, the tail of each is held out

void check_options(const DatasetOptions& options) {
  if (options.sequence_tokens < 1)
    throw InputError("sequence_tokens must be at least 1, not {}", options.sequence_tokens);
  if (!(options.hold_out >= 0 && options.hold_out < 1))
    throw InputError("hold_out must be at least 0 and below 1, not {}", options.hold_out);
}

}  // namespace

Packing parse_packing(std::string_view name) {
  if (name == "packed") return Packing::packed;
  if (name == "padded") return Packing::padded;
  throw InputError("packing must be packed or padded, not \"{}\"", name);
}

std::vector<bool> held_out_documents(int64_t count, double share) {
  std::vector<bool> held_out(count);
  const auto wanted = static_cast<int64_t>(std::llround(static_cast<double>(count) * share));
  if (share <= 0 || count < 2) return held_out;
  // Those with the smallest hash of their index: as good as drawn, and the same in every run.
  std::vector<int64_t> order(count);
  std::iota(order.begin(), order.end(), int64_t{0});
  const auto hash = [](int64_t i) { return mix(static_cast<uint64_t>(i), 0x401d0u); };
  std::ranges::sort(order, {}, hash);
  const int64_t number = std::clamp<int64_t>(wanted, 1, count - 1);
  for (int64_t i = 0; i < number; ++i) held_out[order[i]] = true;
  return held_out;
}

// A Feistel network permutes the numbers of 2 x half bits; numbers beyond the range are sent
// through it again until they fall inside ("cycle walking"), which takes four rounds on average at
// most.
int64_t shuffled_index(int64_t index, int64_t count, uint64_t seed, int64_t epoch) {
  TANDEM_CHECK(0 <= index && index < count, "index {} of {}", index, count);
  if (count == 1) return 0;
  const RandomSource random(seed, RandomStream::data_order, static_cast<uint32_t>(epoch));
  const uint64_t half_bits = (std::bit_width(static_cast<uint64_t>(count - 1)) + 1) / 2;
  const uint64_t mask = (uint64_t{1} << half_bits) - 1;
  auto number = static_cast<uint64_t>(index);
  do {
    uint64_t left = number >> half_bits;
    uint64_t right = number & mask;
    for (uint64_t round = 0; round < 8; ++round) {
      const uint64_t mixed = left ^ (random.block(right, round)[0] & mask);
      left = right;
      right = mixed;
    }
    number = (left << half_bits) | right;
  } while (number >= static_cast<uint64_t>(count));
  return static_cast<int64_t>(number);
}

Dataset::Dataset(const Documents& documents, const DatasetOptions& options, std::string_view source)
    : options_(options) {
  check_options(options);
  const auto count = static_cast<int64_t>(documents.size());
  if (count >= few_documents) {
    const std::vector<bool> held_out = held_out_documents(count, options.hold_out);
    for (int64_t d = 0; d < count; ++d) append(held_out[d] ? validation_ : train_, documents[d]);
  } else {
    for (const std::span<const int32_t> document : documents) {
      const auto tail =
          static_cast<size_t>(std::floor(static_cast<double>(document.size()) * options.hold_out));
      append(train_, document.first(document.size() - tail));
      append(validation_, document.last(tail));
    }
  }
  cut(train_);
  cut(validation_);
  if (train_.sequences() == 0)
    throw InputError("{}: {} tokens to train on are too few for a sequence", source,
                     train_.tokens.size());
}

Dataset Dataset::read(const std::filesystem::path& path, const Tokenize& tokenize,
                      const DatasetOptions& options) {
  check_options(options);
  Documents documents;
  read_corpus(path, [&](std::string_view text) { documents.push_back(tokenize(text)); });
  return Dataset(documents, options, path.string());
}

// Padded sequences are cut here, packed ones by cut(), once all documents stand end to end.
void Dataset::append(Part& part, std::span<const int32_t> document) const {
  if (document.empty()) return;
  const size_t before = part.tokens.size();
  part.tokens.insert(part.tokens.end(), document.begin(), document.end());
  if (options_.end_of_text >= 0) part.tokens.push_back(options_.end_of_text);
  if (options_.packing == Packing::packed) return;
  const size_t most = before + static_cast<size_t>(options_.sequence_tokens) + 1;
  part.tokens.resize(std::min(part.tokens.size(), most));
  if (part.tokens.size() - before < 2) {
    part.tokens.resize(before);  // a single token predicts nothing
    return;
  }
  part.begins.push_back(static_cast<int64_t>(part.tokens.size()));
}

void Dataset::cut(Part& part) const {
  if (options_.packing == Packing::padded) return;
  const auto tokens = static_cast<int64_t>(part.tokens.size());
  while (part.begins.back() + 2 <= tokens)
    part.begins.push_back(std::min(tokens, part.begins.back() + options_.sequence_tokens + 1));
}

TrainingBatch Dataset::empty_batch(int64_t sequences) const {
  const int64_t length = options_.sequence_tokens;
  const auto size = static_cast<size_t>(sequences * length);
  const int32_t padding = std::max(0, options_.end_of_text);
  return {sequences, length, std::vector<int32_t>(size, padding),
          std::vector<int32_t>(size, padding), std::vector<float>(size, 0.0f)};
}

void Dataset::place(const Part& part, int64_t sequence, int64_t row, TrainingBatch& batch) const {
  const auto tokens =
      std::span(part.tokens)
          .subspan(part.begins[sequence], part.begins[sequence + 1] - part.begins[sequence]);
  const int64_t offset = row * options_.sequence_tokens;
  const auto predicted = static_cast<int64_t>(tokens.size()) - 1;
  std::ranges::copy(tokens.first(predicted), batch.inputs.begin() + offset);
  std::ranges::copy(tokens.subspan(1), batch.targets.begin() + offset);
  std::fill_n(batch.weights.begin() + offset, predicted, 1.0f);
}

TrainingBatch Dataset::batch(int64_t step, int64_t sequences) const {
  TANDEM_CHECK(step >= 0 && sequences > 0, "step {}, {} sequences", step, sequences);
  TrainingBatch batch = empty_batch(sequences);
  for (int64_t row = 0; row < sequences; ++row) {
    const int64_t position = step * sequences + row;
    const int64_t epoch = position / train_.sequences();
    const int64_t index = position % train_.sequences();
    place(train_, shuffled_index(index, train_.sequences(), options_.seed, epoch), row, batch);
  }
  return batch;
}

std::vector<TrainingBatch> Dataset::validation_batches(int64_t sequences, int64_t limit) const {
  TANDEM_CHECK(sequences > 0, "{} sequences", sequences);
  std::vector<TrainingBatch> batches;
  for (int64_t s = 0; s < validation_.sequences(); ++s) {
    if (s % sequences == 0) {
      if (limit >= 0 && static_cast<int64_t>(batches.size()) == limit) break;
      batches.push_back(empty_batch(sequences));
    }
    place(validation_, s, s % sequences, batches.back());
  }
  return batches;
}

}  // namespace tandem
