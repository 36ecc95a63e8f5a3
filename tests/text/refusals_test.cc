// What is wrong with a tokenizer.json, or not supported, is said in one line naming the field.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/refusal.h"
#include "model/temporary_directory.h"
#include "tandem/text/tokenizer.h"
#include "text/fixtures.h"

namespace tandem {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

json small() {
  return json::parse(R"({
    "version": "1.0", "truncation": null, "padding": null,
    "added_tokens": [{"id": 3, "content": "<s>", "single_word": false, "lstrip": false,
                      "rstrip": false, "normalized": false, "special": true}],
    "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": null,
    "model": {"type": "BPE", "dropout": null, "unk_token": null, "fuse_unk": false,
              "continuing_subword_prefix": null, "end_of_word_suffix": null,
              "byte_fallback": false, "ignore_merges": false,
              "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}})");
}

std::string refused(const json& file) {
  return refusal([&] { Tokenizer::parse(file.dump(), "tokenizer.json"); });
}

std::string refused_with(const std::string& pointer, const json& value) {
  json file = small();
  file[json::json_pointer(pointer)] = value;
  return refused(file);
}

TEST(TokenizerRefusals, TheSmallOneIsFine) {
  const Tokenizer tokenizer = Tokenizer::parse(small().dump(), "tokenizer.json");
  EXPECT_EQ(tokenizer.encode("abba<s>"), (std::vector<int32_t>{2, 1, 0, 3}));
}

TEST(TokenizerRefusals, NamesFileAndField) {
  const struct {
    std::string pointer;
    json value;
    std::string message;
  } cases[] = {
      {"/model/type", "Unigram", "model.type \"Unigram\" is not supported, only BPE"},
      {"/model/dropout", 0.1, "model.dropout must be null"},
      {"/model/end_of_word_suffix", "</w>", "model.end_of_word_suffix must be null or empty"},
      {"/model/unk_token", "x", "model.unk_token must be a token of the vocabulary"},
      {"/model/vocab", json::array(), "model.vocab must be an object, not []"},
      {"/model/vocab/b", 0, "tokens \"a\" and \"b\" both have the id 0"},
      {"/model/vocab/b", 7, "token \"b\" has the id 7, but there are only 4 tokens"},
      {"/model/vocab/b", -1, "model.vocab.b must be an id of a token"},
      {"/model/vocab/b", 1.5, "model.vocab.b must be an id of a token"},
      {"/model/vocab/b", 1e18, "model.vocab.b must be an id of a token"},
      {"/model/merges", "a b", "model.merges must be a list"},
      {"/model/merges/0", "a b c", "model.merges[0] must be two tokens, not \"a b c\""},
      {"/model/merges/0", json::array({"a"}), "model.merges[0] must be two tokens"},
      {"/model/merges/0", json::array({"a", 1}), "model.merges[0] must be two tokens"},
      {"/model/merges/0", "a c", "model.merges[0]: token \"c\" is not in the vocabulary"},
      {"/model/merges/0", "b a", "model.merges[0]: token \"ba\" is not in the vocabulary"},
      {"/model/new_option", true, "model.new_option is not supported"},
      {"/truncation", {{"max_length", 5}}, "truncation must be null"},
      {"/padding", {{"length", 5}}, "padding must be null"},
      {"/extra", 1, "tokenizer.json: extra is not supported"},
      {"/added_tokens/0/id", 1, "both have the id 1"},
      {"/added_tokens/0/content", "a", "added_tokens: \"a\" has the id 3, but 0 in the vocabulary"},
      {"/added_tokens/0/content", "", "added_tokens[0].content must be a string that is not empty"},
      {"/added_tokens/0/lstrip", "no", "added_tokens[0].lstrip must be true or false"},
      {"/normalizer", {{"type", "Precompiled"}}, "normalizer.type \"Precompiled\""},
      {"/normalizer", "NFC", "normalizer must be an object"},
      {"/pre_tokenizer", {{"type", "UnicodeScripts"}}, "pre_tokenizer.type \"UnicodeScripts\""},
      {"/pre_tokenizer", {{"type", "Metaspace"}, {"replacement", "ab"}}, "must be one character"},
      {"/decoder", {{"type", "CTC"}}, "decoder.type \"CTC\" is not supported"},
      {"/post_processor", {{"type", "Other"}}, "post_processor.type \"Other\""},
      {"/post_processor", json::parse(R"({"type": "TemplateProcessing", "special_tokens": {},
                       "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}], "pair": []})"),
       "post_processor.special_tokens.<s> is missing"},
  };
  for (const auto& each : cases) {
    EXPECT_THAT(refused_with(each.pointer, each.value),
                AllOf(HasSubstr("tokenizer.json: "), HasSubstr(each.message)));
  }
}

TEST(TokenizerRefusals, Regexes) {
  for (const char* pattern :
       {"(a", "[a", "a{2}+", "(?<n>a)\\k<n>", "[a&&b]", "[[:alpha:]]", "\\h", "\\b", "(?m:a)",
        "x(?i)y", "\\xFF", "(*ACCEPT)", "\\p{Nonsense}", "\\", "\\pL", "(a)\\1"}) {
    const json split = {
        {"type", "Split"}, {"behavior", "Isolated"}, {"pattern", {{"Regex", pattern}}}};
    EXPECT_THAT(refused_with("/pre_tokenizer", split),
                HasSubstr("tokenizer.json: pre_tokenizer.pattern.Regex: regular expression"))
        << pattern;
  }
}

TEST(TokenizerRefusals, ARegexThatWouldTakeForever) {
  json file = small();
  file["pre_tokenizer"] = {
      {"type", "Split"}, {"behavior", "Isolated"}, {"pattern", {{"Regex", "(a+)+(a+)+(a+)+[bc]"}}}};
  const Tokenizer tokenizer = Tokenizer::parse(file.dump(), "tokenizer.json");
  EXPECT_THAT(refusal([&] { tokenizer.encode(std::string(200, 'a')); }), HasSubstr("gave up"));
}

TEST(TokenizerRefusals, GapsAndMissingParts) {
  json file = small();
  file["model"]["vocab"].erase("b");
  file["model"]["merges"] = json::array();
  file["model"]["vocab"]["ab"] = 1;
  file["added_tokens"][0]["id"] = 2;
  EXPECT_EQ(refused(file), "no refusal");
  file["added_tokens"].push_back(file["added_tokens"][0]);
  EXPECT_THAT(refused(file), HasSubstr("is there twice"));
  file["added_tokens"].erase(1);
  file["model"]["vocab"]["ab"] = 2;
  file["added_tokens"][0]["content"] = "ab";
  EXPECT_THAT(refused(file), HasSubstr("no token has the id 1"));
  for (const char* part : {"model", "added_tokens"}) {
    file = small();
    file.erase(part);
    if (std::string(part) == "model") {
      EXPECT_THAT(refused(file), HasSubstr("model is missing"));
    } else {
      EXPECT_EQ(refused(file), "no refusal");
    }
  }
}

TEST(TokenizerRefusals, NestedTooDeep) {
  json normalizer = {{"type", "NFC"}};
  for (int i = 0; i < 40; ++i) normalizer = {{"type", "Sequence"}, {"normalizers", {normalizer}}};
  EXPECT_THAT(refused_with("/normalizer", normalizer), HasSubstr("nested too deep"));
}

TEST(TokenizerRefusals, DamagedFiles) {
  TemporaryDirectory directory;
  EXPECT_THAT(refusal([&] { Tokenizer::read(directory.path()); }), HasSubstr("tokenizer.json"));
  const std::string whole = fixture_text("mixtral/tokenizer.json");
  ASSERT_GT(whole.size(), 1000u);
  for (size_t bytes = 0; bytes < whole.size() - 2; bytes += whole.size() / 50) {
    directory.put("tokenizer.json", std::string_view(whole).substr(0, bytes));
    EXPECT_THAT(refusal([&] { Tokenizer::read(directory.path()); }), HasSubstr("not valid JSON"));
  }
  directory.put("tokenizer.json", whole);
  EXPECT_EQ(refusal([&] { Tokenizer::read(directory.path()); }), "no refusal");
}

}  // namespace
}  // namespace tandem
