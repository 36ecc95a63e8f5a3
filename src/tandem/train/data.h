// Token sequences to train on and to validate with. A Dataset does not change once built: safe from
// any thread, and batch i is the same in every run, under every plan and after every resume.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tandem/train/corpus.h"
#include "tandem/world/engine.h"

namespace tandem {

using Tokenize = std::function<std::vector<int32_t>(std::string_view)>;

enum class Packing : uint8_t {
  packed,  // documents end to end, cut into sequences of length + 1 tokens that share none
  padded,  // one document a sequence, cut to length + 1 tokens or padded with weight 0
};
Packing parse_packing(std::string_view name);  // "packed" or "padded", else InputError

struct DatasetOptions {
  int64_t sequence_tokens = 0;  // L: inputs and targets of a sequence
  Packing packing = Packing::packed;
  int32_t end_of_text = -1;  // token after each document; -1 for none
  uint64_t seed = 0;         // of the order; the hold-out does not depend on it
  double hold_out = 0.1;     // share kept for validation
};

class Dataset {
 public:
  using Documents = std::vector<std::vector<int32_t>>;

  // InputError: options out of range, or too little text for one sequence (named by `source`).
  // From ten documents on whole documents are held out, else the tail of each.
  Dataset(const Documents& documents, const DatasetOptions& options,
          std::string_view source = "corpus");

  // Reads and tokenizes a corpus; errors as of read_corpus too.
  static Dataset read(const std::filesystem::path& path, const Tokenize& tokenize,
                      const DatasetOptions& options);

  // The batch of a step (from 0): every sequence once an epoch, in an order drawn anew each epoch.
  TrainingBatch batch(int64_t step, int64_t sequences) const;

  // All held-out sequences in order, `limit` batches at most (-1: all). The last batch is filled up
  // with sequences of weight 0. Empty where the hold-out is too short for two tokens.
  std::vector<TrainingBatch> validation_batches(int64_t sequences, int64_t limit = -1) const;

  int64_t train_sequences() const { return train_.sequences(); }
  int64_t train_tokens() const { return static_cast<int64_t>(train_.tokens.size()); }
  int64_t validation_sequences() const { return validation_.sequences(); }
  int64_t validation_tokens() const { return static_cast<int64_t>(validation_.tokens.size()); }

 private:
  // Of a packed part the last sequence may be short; a single token left over is not used.
  // Sequence i is tokens[begins[i] .. begins[i + 1]), 2 to sequence_tokens + 1 of them.
  struct Part {
    std::vector<int32_t> tokens;
    std::vector<int64_t> begins{0};
    int64_t sequences() const { return static_cast<int64_t>(begins.size()) - 1; }
  };

  void append(Part& part, std::span<const int32_t> document) const;
  void cut(Part& part) const;
  void place(const Part& part, int64_t sequence, int64_t row, TrainingBatch& batch) const;
  TrainingBatch empty_batch(int64_t sequences) const;

  DatasetOptions options_;
  Part train_;
  Part validation_;
};

// The documents held out of `count`: true for round(count * share) of them, at least one. Depends
// on the two arguments alone.
std::vector<bool> held_out_documents(int64_t count, double share);

// Where index i of [0, count) comes to stand in the order of an epoch: a permutation, computed
// without storing it.
int64_t shuffled_index(int64_t index, int64_t count, uint64_t seed, int64_t epoch);

}  // namespace tandem
