#include "tandem/model/checkpoint_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "model/refusal.h"
#include "model/temporary_directory.h"

namespace tandem {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

ModelConfig tiny() {
  ModelConfig c;
  c.vocab_size = 11;
  c.hidden_size = 8;
  c.layers = 2;
  c.heads = c.kv_heads = 2;
  c.head_dim = 4;
  c.max_positions = 16;
  c.experts = 3;
  c.top_k = 2;
  c.expert_hidden = 7;
  return c;
}

// A model directory of `tiny()`, to be spoilt by the test.
class ModelDirectory : public testing::Test {
 protected:
  ModelDirectory() { directory.put("config.json", config_json(tiny())); }

  void write(const std::string& name, const std::vector<Parameter>& stored,
             StoredType dtype = StoredType::bf16) const {
    std::vector<TensorToStore> tensors;
    for (const Parameter& p : stored) tensors.push_back({p.name, dtype, p.stored_shape()});
    SafetensorsWriter(directory / name, tensors).close();
  }

  // The first half in one shard, the rest in the other.
  json write_shards() const {
    json map = json::object();
    const std::vector<Parameter> first(all.begin(), all.begin() + 10);
    const std::vector<Parameter> second(all.begin() + 10, all.end());
    write("model-00001-of-00002.safetensors", first);
    write("model-00002-of-00002.safetensors", second, StoredType::f16);
    for (const Parameter& p : first) map[p.name] = "model-00001-of-00002.safetensors";
    for (const Parameter& p : second) map[p.name] = "model-00002-of-00002.safetensors";
    return {{"metadata", {{"total_size", 1}}}, {"weight_map", map}};
  }
  void put_index(const json& index) const {
    directory.put("model.safetensors.index.json", index.dump());
  }
  std::string opening() const {
    return refusal([&] { ModelFiles files(directory.path()); });
  }

  TemporaryDirectory directory;
  std::vector<Parameter> all = parameters(tiny());
};

TEST_F(ModelDirectory, MayHaveNoWeights) {
  const ModelFiles files(directory.path());
  EXPECT_EQ(files.config(), tiny());
  EXPECT_FALSE(files.has_weights());
  EXPECT_EQ(files.find("lm_head.weight"), nullptr);
  EXPECT_THAT(refusal([&] { files.require_all(); }),
              AllOf(HasSubstr(directory.path().string()), HasSubstr("has no weights")));
}

TEST_F(ModelDirectory, OpensOneFile) {
  for (const StoredType dtype : {StoredType::f32, StoredType::f16, StoredType::bf16}) {
    write("model.safetensors", all, dtype);
    const ModelFiles files(directory.path());
    EXPECT_TRUE(files.has_weights());
    files.require_all();
    for (const Parameter& p : all) {
      EXPECT_EQ(files.find(p).elements(), p.elements());
      EXPECT_EQ(files.find(p).dtype, dtype);
      files.release_pages(files.find(p));
    }
  }
}

TEST_F(ModelDirectory, OpensShards) {
  put_index(write_shards());
  const ModelFiles files(directory.path());
  files.require_all();
  EXPECT_EQ(files.find(all.front()).dtype, StoredType::bf16);
  EXPECT_EQ(files.find(all.back()).dtype, StoredType::f16);
}

TEST_F(ModelDirectory, NamesWhatIsMissing) {
  const std::vector<Parameter> without_last(all.begin(), all.end() - 1);
  write("model.safetensors", without_last);
  EXPECT_THAT(refusal([&] { ModelFiles(directory.path()).require_all(); }),
              AllOf(HasSubstr("model.safetensors"), HasSubstr("lm_head.weight is missing")));
  write("model.safetensors", {all.begin(), all.end() - 4});
  EXPECT_THAT(refusal([&] { ModelFiles(directory.path()).require_all(); }),
              HasSubstr("4 tensors are missing, the first is " + all[all.size() - 4].name));
}

TEST_F(ModelDirectory, NamesBothShapes) {
  std::vector<Parameter> stored = all;
  stored[0].rows = 12;
  write("model.safetensors", stored);
  const ModelFiles files(directory.path());
  EXPECT_THAT(refusal([&] { files.find(all[0]); }),
              AllOf(HasSubstr("model.safetensors"), HasSubstr("model.embed_tokens.weight"),
                    HasSubstr("[12, 8]"), HasSubstr("[11, 8]")));
  EXPECT_EQ(files.find(all[1]).shape, (std::vector<int64_t>{8}));
}

TEST_F(ModelDirectory, RefusesOtherTypes) {
  write("model.safetensors", all, StoredType::f8_e5m2);
  EXPECT_THAT(refusal([&] { ModelFiles(directory.path()).require_all(); }),
              HasSubstr("is F8_E5M2; weights must be F32, F16, BF16 or F8_E4M3"));
  write("model.safetensors", all, StoredType::f8_e4m3);
  EXPECT_THAT(refusal([&] { ModelFiles(directory.path()).require_all(); }),
              HasSubstr("is F8_E4M3, so model.embed_tokens.weight_scale_inv must be F32 [1, 1]"));
}

TEST_F(ModelDirectory, ShardsStayInTheDirectory) {
  for (const char* path : {"../secret.safetensors", "/etc/passwd", "a/../../b", "", "a/", ".."}) {
    put_index({{"weight_map", {{"lm_head.weight", path}}}});
    EXPECT_THAT(opening(), AllOf(HasSubstr("model.safetensors.index.json"),
                                 HasSubstr("lm_head.weight"), HasSubstr("not a file within")))
        << path;
  }
}

TEST_F(ModelDirectory, RefusesAWrongIndex) {
  const json sound = write_shards();
  put_index({{"weights", 3}});
  EXPECT_THAT(opening(), HasSubstr("index.json: weight_map must be an object"));
  put_index({{"weight_map", json::object()}});
  EXPECT_THAT(opening(), HasSubstr("index.json: weight_map is empty"));
  put_index({{"weight_map", {{"lm_head.weight", 3}}}});
  EXPECT_THAT(opening(), HasSubstr("lm_head.weight must be a file name"));
  put_index({{"weight_map", {{"lm_head.weight", "none.safetensors"}}}});
  EXPECT_THAT(opening(), AllOf(HasSubstr("none.safetensors"), HasSubstr("No such file")));
  json elsewhere = sound;
  elsewhere["weight_map"]["lm_head.weight"] = "model-00001-of-00002.safetensors";
  put_index(elsewhere);
  EXPECT_THAT(opening(), HasSubstr("lm_head.weight is not in model-00001-of-00002.safetensors"));
  directory.put("model.safetensors.index.json", "{");
  EXPECT_THAT(opening(), HasSubstr("index.json: not valid JSON"));
}

TEST_F(ModelDirectory, RefusesWhatItCannotRead) {
  directory.put("pytorch_model.bin", "PK");
  EXPECT_THAT(opening(), HasSubstr("only safetensors"));
  directory.put("model.safetensors", "short");
  EXPECT_THAT(opening(), AllOf(HasSubstr("model.safetensors"), HasSubstr("too few")));
  EXPECT_THAT(refusal([&] { ModelFiles(directory / "nowhere"); }),
              AllOf(HasSubstr("nowhere"), HasSubstr("not a directory")));
  const TemporaryDirectory empty;
  EXPECT_THAT(refusal([&] { ModelFiles files(empty.path()); }),
              AllOf(HasSubstr("config.json"), HasSubstr("No such file")));
}

}  // namespace
}  // namespace tandem
