#include "tandem/model/byte_tokenizer.h"

#include <gtest/gtest.h>

namespace tandem {
namespace {

TEST(ByteTokenizer, EveryByteComesBack) {
  std::string text;
  for (int byte = 0; byte < 256; ++byte) text.push_back(static_cast<char>(byte));
  const ByteTokenizer tokenizer;
  const std::vector<int32_t> ids = tokenizer.encode(text);
  for (int32_t byte = 0; byte < 256; ++byte) EXPECT_EQ(ids[static_cast<size_t>(byte)], byte);
  EXPECT_EQ(tokenizer.decode(ids), text);
  EXPECT_TRUE(tokenizer.encode("").empty());
}

TEST(ByteTokenizer, OtherIdsShowTheirNumber) {
  const std::vector<int32_t> ids = {'a', 256, 'b', 50000, -1};
  EXPECT_EQ(ByteTokenizer().decode(ids), "a<256>b<50000><-1>");
}

}  // namespace
}  // namespace tandem
