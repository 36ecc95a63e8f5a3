#include "tandem/train/corpus.h"

#include <vector>

#include "files.h"
#include "tandem/base/error.h"

namespace tandem {
namespace {

class Corpus : public WithFiles {
 protected:
  static std::vector<std::string> documents(const std::filesystem::path& path) {
    std::vector<std::string> found;
    const int64_t count = read_corpus(path, [&](std::string_view d) { found.emplace_back(d); });
    EXPECT_EQ(count, found.size());
    return found;
  }
  // The message of the InputError that reading `path` ends in, without the path itself.
  static std::string mistake(const std::filesystem::path& path) {
    try {
      documents(path);
    } catch (const InputError& error) {
      const std::string message = error.what();
      EXPECT_TRUE(message.starts_with(path.string() + ": ")) << message;
      EXPECT_EQ(message.find('\n'), message.npos);
      return message.substr(std::min(message.size(), path.string().size() + 2));
    }
    return "no mistake";
  }
};

using Documents = std::vector<std::string>;

TEST_F(Corpus, TextFileIsOneDocument) {
  EXPECT_EQ(documents(write("a.txt", "one\ntwo\n")), Documents{"one\ntwo\n"});
  EXPECT_EQ(documents(write("no_extension", "x")), Documents{"x"});
}

TEST_F(Corpus, JsonLinesAreADocumentEach) {
  const auto path = write("c4.json",
                          "{\"text\": \"first \\u00e9\", \"url\": \"u\"}\n"
                          "\n"
                          "{\"text\": \"\"}\r\n"
                          "{\"text\": \"last\\nline\"}");
  EXPECT_EQ(documents(path), (Documents{"first \xC3\xA9", "last\nline"}));
}

TEST_F(Corpus, GzippedFilesAreReadByTheirInnerName) {
  EXPECT_EQ(documents(write_gzipped("a.jsonl.gz", "{\"text\":\"x\"}\n{\"text\":\"y\"}\n")),
            (Documents{"x", "y"}));
  EXPECT_EQ(documents(write_gzipped("a.txt.gz", "{\"text\"")), Documents{"{\"text\""});
  EXPECT_EQ(documents(write_gzipped("a.gz", "plain")), Documents{"plain"});
}

TEST_F(Corpus, LinesLongerThanAPieceAndManyPieces) {
  const std::string big(700'000, 'b');
  std::string lines = "{\"text\":\"" + big + "\"}\n";
  for (int i = 0; i < 20'000; ++i) lines += "{\"text\":\"document " + std::to_string(i) + "\"}\n";
  const auto found = documents(write_gzipped("big.json.gz", lines));
  ASSERT_EQ(found.size(), 20'001u);
  EXPECT_EQ(found[0], big);
  EXPECT_EQ(found[1], "document 0");
  EXPECT_EQ(found[20'000], "document 19999");
}

TEST_F(Corpus, FolderInOrderOfNames) {
  write("b.txt", "second");
  write_gzipped("c.json.gz", "{\"text\":\"third\"}");
  write("a.jsonl", "{\"text\":\"first\"}");
  write(".hidden", "no");
  std::filesystem::create_directory(folder_ / "folder");
  EXPECT_EQ(documents(folder_), (Documents{"first", "second", "third"}));
}

TEST_F(Corpus, MissingAndEmpty) {
  EXPECT_EQ(mistake(folder_ / "nothing"), "no such file or folder");
  EXPECT_EQ(mistake(folder_), "no text in it");
  EXPECT_EQ(mistake(write("empty.txt", "")), "no text in it");
  EXPECT_EQ(mistake(write("blank.jsonl", "\n\n{\"text\":\"\"}\n")), "no text in it");
  EXPECT_EQ(mistake(write("empty.gz", "")), "no text in it");
}

TEST_F(Corpus, BrokenJsonNamesTheLine) {
  EXPECT_EQ(mistake(write("a.jsonl", "{\"text\":\"x\"}\n\n{\"text\": \n")),
            "line 3: not valid JSON at byte 10");
  EXPECT_EQ(mistake(write("b.jsonl", "{\"text\":\"x\"}\n{\"body\":\"x\"}\n")),
            "line 2: no \"text\" field");
  EXPECT_EQ(mistake(write("c.json", "[\"text\"]")),
            "line 1: not a JSON object with a \"text\" field");
  EXPECT_EQ(mistake(write("d.json", "{\"text\": 3}")), "line 1: \"text\" is not a string");
  EXPECT_EQ(mistake(write("e.json", "{\"text\": \"\xff\"}")), "line 1: not valid JSON at byte 11");
}

TEST_F(Corpus, BrokenGzip) {
  std::string text;
  for (int i = 0; i < 100'000; ++i) text += std::to_string(i * 7919);
  const auto whole = write_gzipped("whole.txt.gz", text);
  std::ifstream in(whole, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(in)), {});
  ASSERT_GT(bytes.size(), 1000u);

  EXPECT_EQ(mistake(write("cut.txt.gz", std::string_view(bytes).substr(0, bytes.size() / 2))),
            "the gzip file is cut short");
  EXPECT_EQ(
      mistake(write("cut_trailer.txt.gz", std::string_view(bytes).substr(0, bytes.size() - 4))),
      "the gzip file is cut short");
  std::string wrong_sum = bytes;
  wrong_sum[bytes.size() - 6] ^= 1;
  EXPECT_EQ(mistake(write("sum.txt.gz", wrong_sum)), "the gzip file is corrupted (" +
                                                         (folder_ / "sum.txt.gz").string() +
                                                         ": incorrect data check)");
  EXPECT_EQ(mistake(write("plain.txt.gz", "just text")), "not a gzip file");
}

TEST_F(Corpus, BinaryFilesAreRefused) {
  EXPECT_EQ(mistake(write("weights.bin", std::string_view("a\0b", 3))),
            "not a text file (it has a zero byte)");
}

}  // namespace
}  // namespace tandem
