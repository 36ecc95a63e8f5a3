// A Tokenizer from its tokenizer.json.
#include "tandem/base/error.h"
#include "tandem/model/json_text.h"
#include "tandem/text/tokenizer_parts.h"

namespace tandem {

using text::AddedToken;
using text::Json;
using text::JsonFields;
using text::TokenFinder;

// The file as JSON, checked as far as it takes to know the sizes of tables.
struct Tokenizer::Parts::File {
  Json json;
  std::string where;
  std::vector<AddedToken> added;

  File(std::string_view text, const std::string& name) : json(parse_json(text, name)), where(name) {
    JsonFields fields(json, where);
    fields.ignore({"version", "normalizer", "pre_tokenizer", "model", "decoder", "post_processor"});
    for (const char* name_of_length : {"truncation", "padding"}) {
      if (fields.find(name_of_length)) fields.refuse(name_of_length, "null");
    }
    JsonFields model(fields.object("model"), fields.where("model"));
    model.object("vocab");
    if (fields.find("added_tokens")) {
      added = text::read_added_tokens(fields.list("added_tokens"), fields.where("added_tokens"));
    }
    fields.finish();
  }

  const Json& part(const char* name) const {
    static const Json none;
    const auto it = json.find(name);
    return it == json.end() ? none : *it;
  }
  std::string path(const char* name) const { return where + ": " + name; }
  size_t tokens() const { return part("model").find("vocab")->size() + added.size(); }
};

Tokenizer::Parts::Parts(std::string_view json, const std::string& where)
    : Parts(File(json, where)) {}

Tokenizer::Parts::Parts(const File& file)
    : vocabulary_(file.tokens(), file.where),
      normalizer_(file.part("normalizer"), file.path("normalizer")),
      pre_tokenizer_(file.part("pre_tokenizer"), file.path("pre_tokenizer")),
      bpe_(file.part("model"), file.path("model"), pre_tokenizer_.byte_level(), vocabulary_),
      decoder_(file.part("decoder"), file.path("decoder")) {
  std::vector<AddedToken> plain;
  std::vector<AddedToken> normalized;
  for (const AddedToken& token : file.added) {
    add(token, file.path("added_tokens"));
    (token.normalized ? normalized : plain).push_back(token);
  }
  vocabulary_.check_complete();
  plain_tokens_ = TokenFinder(plain, [](const std::string& token) { return token; });
  normalized_tokens_ =
      TokenFinder(normalized, [&](const std::string& token) { return normalizer_.apply(token); });
  post_processor_ =
      text::PostProcessor(file.part("post_processor"), file.path("post_processor"), vocabulary_);
}

void Tokenizer::Parts::add(const AddedToken& token, const std::string& where) {
  const int32_t known = vocabulary_.find(token.content);
  if (known < 0) {
    vocabulary_.add(token.content, token.id);
  } else if (known != token.id) {
    throw InputError("{}: \"{}\" has the id {}, but {} in the vocabulary", where,
                     printable(token.content), token.id, known);
  }
  const auto id = static_cast<size_t>(token.id);
  if (id >= special_.size()) special_.resize(id + 1);
  special_[id] = token.special;
  if (!token.normalized) return;
  std::string form = normalizer_.apply(token.content);
  if (form != token.content) normalized_forms_.emplace(token.id, std::move(form));
}

Tokenizer Tokenizer::read(const std::filesystem::path& directory_or_file) {
  std::error_code error;
  const bool directory = std::filesystem::is_directory(directory_or_file, error);
  const std::filesystem::path file =
      directory ? directory_or_file / "tokenizer.json" : directory_or_file;
  return parse(read_text(file, largest_json_bytes), file.string());
}

Tokenizer Tokenizer::parse(std::string_view json, const std::string& where) {
  return Tokenizer(std::make_shared<const Parts>(json, where));
}

}  // namespace tandem
