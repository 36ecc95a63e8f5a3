#include "tandem/train/data.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "files.h"
#include "tandem/base/error.h"

namespace tandem {
namespace {

// Documents of distinct tokens: document d holds 1000 d, 1000 d + 1, ...
Dataset::Documents distinct_documents(int count, int tokens) {
  Dataset::Documents documents(count, std::vector<int32_t>(tokens));
  for (int d = 0; d < count; ++d)
    std::iota(documents[d].begin(), documents[d].end(), static_cast<int32_t>(1000 * d));
  return documents;
}

// Every token of the sequences of a batch, rows of padding left out: the inputs that count, and the
// last target.
void collect(const TrainingBatch& batch, std::map<int32_t, int>& count) {
  for (int64_t row = 0; row < batch.sequences; ++row) {
    const int64_t begin = row * batch.sequence_tokens;
    int64_t predicted = 0;
    while (predicted < batch.sequence_tokens && batch.weights[begin + predicted] == 1) ++predicted;
    for (int64_t i = predicted; i < batch.sequence_tokens; ++i)
      EXPECT_EQ(batch.weights[begin + i], 0);
    if (predicted == 0) continue;
    for (int64_t i = 0; i < predicted; ++i) {
      ++count[batch.inputs[begin + i]];
      if (i > 0) {
        EXPECT_EQ(batch.inputs[begin + i], batch.targets[begin + i - 1]);
      }
    }
    ++count[batch.targets[begin + predicted - 1]];
  }
}

bool same(const TrainingBatch& a, const TrainingBatch& b) {
  return a.inputs == b.inputs && a.targets == b.targets && a.weights == b.weights;
}

TEST(ShuffledIndex, IsAPermutationAndDiffersByEpochAndSeed) {
  for (int64_t count : {1, 2, 3, 7, 64, 1000, 4097}) {
    std::vector<int64_t> first, second, other;
    for (int64_t i = 0; i < count; ++i) {
      first.push_back(shuffled_index(i, count, 5, 0));
      second.push_back(shuffled_index(i, count, 5, 1));
      other.push_back(shuffled_index(i, count, 6, 0));
    }
    if (count > 10) {
      EXPECT_NE(first, second);
      EXPECT_NE(first, other);
      EXPECT_FALSE(std::ranges::is_sorted(first));
    }
    for (auto* order : {&first, &second, &other}) {
      std::ranges::sort(*order);
      for (int64_t i = 0; i < count; ++i) ASSERT_EQ((*order)[i], i) << "of " << count;
    }
  }
}

TEST(ShuffledIndex, LooksDrawn) {
  // Each of 5 places is taken by index 0 in about a fifth of 5000 epochs (standard deviation 28).
  std::map<int64_t, int> places;
  for (int epoch = 0; epoch < 5000; ++epoch) ++places[shuffled_index(0, 5, 42, epoch)];
  for (int64_t place = 0; place < 5; ++place) EXPECT_NEAR(places[place], 1000, 150) << place;
}

TEST(Dataset, PackedCoversEveryTokenOnceAnEpoch) {
  const Dataset data(distinct_documents(40, 37), {.sequence_tokens = 16, .seed = 3});
  EXPECT_EQ(data.train_tokens(), 36 * 37);
  EXPECT_EQ(data.validation_tokens(), 4 * 37);
  EXPECT_EQ(data.train_sequences(), (36 * 37 + 16) / 17);
  for (int64_t epoch : {0, 1, 5}) {
    std::map<int32_t, int> count;
    for (int64_t s = 0; s < data.train_sequences(); ++s)
      collect(data.batch(epoch * data.train_sequences() + s, 1), count);
    EXPECT_EQ(count.size(), 36u * 37);
    for (const auto& [token, times] : count) ASSERT_EQ(times, 1) << token << " epoch " << epoch;
  }
}

TEST(Dataset, HoldOutIsDisjointFromTraining) {
  for (Packing packing : {Packing::packed, Packing::padded}) {
    for (int documents : {1, 3, 10, 55}) {
      const Dataset data(distinct_documents(documents, 200),
                         {.sequence_tokens = 24, .packing = packing});
      std::map<int32_t, int> train, validation;
      for (int64_t s = 0; s < data.train_sequences(); ++s) collect(data.batch(s, 1), train);
      for (const TrainingBatch& batch : data.validation_batches(3)) collect(batch, validation);
      EXPECT_FALSE(validation.empty());
      for (const auto& [token, times] : validation) {
        EXPECT_EQ(times, 1);
        ASSERT_EQ(train.count(token), 0u) << token << " of " << documents << " documents";
      }
    }
  }
}

TEST(Dataset, OneDocumentHoldsOutItsTail) {
  const Dataset data(distinct_documents(1, 100), {.sequence_tokens = 9});
  EXPECT_EQ(data.train_tokens(), 90);
  const auto batches = data.validation_batches(1);
  ASSERT_EQ(batches.size(), 1u);
  EXPECT_EQ(batches[0].inputs.front(), 90);
  EXPECT_EQ(batches[0].targets.back(), 99);
}

TEST(Dataset, HoldOutDoesNotDependOnTheSeed) {
  const auto documents = distinct_documents(30, 50);
  const Dataset a(documents, {.sequence_tokens = 8, .seed = 1});
  const Dataset b(documents, {.sequence_tokens = 8, .seed = 2});
  const auto batches_a = a.validation_batches(4), batches_b = b.validation_batches(4);
  ASSERT_EQ(batches_a.size(), batches_b.size());
  for (size_t i = 0; i < batches_a.size(); ++i) EXPECT_TRUE(same(batches_a[i], batches_b[i]));
  EXPECT_FALSE(same(a.batch(0, 8), b.batch(0, 8)));
}

TEST(Dataset, BatchIsAPureFunctionOfSeedAndStep) {
  const auto documents = distinct_documents(20, 64);
  const DatasetOptions options{.sequence_tokens = 15, .seed = 9};
  const Dataset a(documents, options), b(documents, options);
  for (int64_t step : {100, 0, 7, 3}) EXPECT_TRUE(same(a.batch(step, 4), b.batch(step, 4)));
  // A batch of four is the four batches of one in a row.
  const TrainingBatch four = a.batch(5, 4);
  for (int64_t row = 0; row < 4; ++row) {
    const TrainingBatch one = a.batch(20 + row, 1);
    EXPECT_TRUE(std::ranges::equal(one.inputs, std::span(four.inputs).subspan(row * 15, 15)));
  }
}

TEST(Dataset, PackedPutsTheEndTokenBetweenDocuments) {
  const Dataset data({{1, 2}, {3}, {}, {4, 5, 6}},
                     {.sequence_tokens = 100, .end_of_text = 99, .hold_out = 0});
  ASSERT_EQ(data.train_sequences(), 1);
  const TrainingBatch batch = data.batch(0, 1);
  const std::vector<int32_t> tokens{1, 2, 99, 3, 99, 4, 5, 6, 99};
  EXPECT_TRUE(std::equal(tokens.begin(), tokens.end() - 1, batch.inputs.begin()));
  EXPECT_TRUE(std::equal(tokens.begin() + 1, tokens.end(), batch.targets.begin()));
  EXPECT_EQ(std::accumulate(batch.weights.begin(), batch.weights.end(), 0.0f), 8);
  EXPECT_EQ(batch.inputs.back(), 99);  // padding
  EXPECT_TRUE(data.validation_batches(2).empty());
}

TEST(Dataset, PaddedKeepsADocumentASequence) {
  const Dataset data({{1, 2, 3}, {4}, {5, 6, 7, 8, 9, 10}},
                     {.sequence_tokens = 4, .packing = Packing::padded, .hold_out = 0});
  ASSERT_EQ(data.train_sequences(), 2);  // a single token predicts nothing
  std::set<std::vector<int32_t>> inputs, targets;
  std::multiset<float> weights;
  for (int64_t s = 0; s < 2; ++s) {
    const TrainingBatch batch = data.batch(s, 1);
    inputs.insert(batch.inputs);
    targets.insert(batch.targets);
    weights.insert(batch.weights.begin(), batch.weights.end());
  }
  EXPECT_EQ(inputs, (std::set<std::vector<int32_t>>{{1, 2, 0, 0}, {5, 6, 7, 8}}));
  EXPECT_EQ(targets, (std::set<std::vector<int32_t>>{{2, 3, 0, 0}, {6, 7, 8, 9}}));
  EXPECT_EQ(weights.count(0), 2u);
}

TEST(Dataset, ValidationBatchesAreFilledUpAndLimited) {
  const Dataset data(distinct_documents(1, 1000), {.sequence_tokens = 9, .hold_out = 0.25});
  ASSERT_EQ(data.validation_sequences(), 25);
  const auto all = data.validation_batches(10);
  ASSERT_EQ(all.size(), 3u);
  EXPECT_EQ(all[2].sequences, 10);
  EXPECT_EQ(all[2].inputs.size(), 90u);
  EXPECT_EQ(std::accumulate(all[2].weights.begin(), all[2].weights.end(), 0.0f), 5 * 9);
  EXPECT_EQ(data.validation_batches(10, 2).size(), 2u);
  EXPECT_EQ(data.validation_batches(10, 0).size(), 0u);
}

TEST(HeldOutDocuments, ShareAndBounds) {
  for (int64_t count : {10, 11, 100, 999}) {
    const auto held = held_out_documents(count, 0.1);
    EXPECT_EQ(std::ranges::count(held, true), std::llround(0.1 * static_cast<double>(count)));
    EXPECT_EQ(held, held_out_documents(count, 0.1));
  }
  EXPECT_EQ(std::ranges::count(held_out_documents(10, 0.001), true), 1);
  EXPECT_EQ(std::ranges::count(held_out_documents(10, 0), true), 0);
  EXPECT_EQ(std::ranges::count(held_out_documents(10, 0.999), true), 9);
}

TEST(Dataset, RefusesWhatCannotWork) {
  const auto mistake = [](const Dataset::Documents& documents, const DatasetOptions& options) {
    try {
      Dataset data(documents, options, "book.txt");
    } catch (const InputError& error) {
      return std::string(error.what());
    }
    return std::string("no mistake");
  };
  EXPECT_EQ(mistake({{1, 2}}, {.sequence_tokens = 0}), "sequence_tokens must be at least 1, not 0");
  EXPECT_EQ(mistake({{1, 2}}, {.sequence_tokens = 4, .hold_out = 1}),
            "hold_out must be at least 0 and below 1, not 1");
  EXPECT_EQ(mistake({{1}}, {.sequence_tokens = 4}),
            "book.txt: 1 tokens to train on are too few for a sequence");
  EXPECT_EQ(mistake({}, {.sequence_tokens = 4}),
            "book.txt: 0 tokens to train on are too few for a sequence");
  EXPECT_THROW(parse_packing("loose"), InputError);
  EXPECT_EQ(parse_packing("padded"), Packing::padded);
}

class DatasetFile : public WithFiles {};

TEST_F(DatasetFile, ReadsAndTokenizes) {
  const auto path = write_gzipped("a.jsonl.gz", "{\"text\":\"abcd\"}\n{\"text\":\"ef\"}\n");
  const auto bytes = [](std::string_view text) {
    return std::vector<int32_t>(text.begin(), text.end());
  };
  const Dataset data =
      Dataset::read(path, bytes, {.sequence_tokens = 6, .end_of_text = 10, .hold_out = 0});
  EXPECT_EQ(data.train_tokens(), 8);
  const std::vector<int32_t> expected{'a', 'b', 'c', 'd', 10, 'e'};
  EXPECT_EQ(data.batch(0, 1).inputs, expected);
}

}  // namespace
}  // namespace tandem
