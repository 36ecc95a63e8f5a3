#include "tandem/text/post_processor.h"

#include "tandem/base/error.h"
#include "tandem/model/json_text.h"

namespace tandem::text {

namespace {

int32_t known_id(int32_t id, const Vocabulary& vocabulary, const std::string& where) {
  if (!vocabulary.token(id)) throw InputError("{}: no token has the id {}", where, id);
  return id;
}

// ["</s>", 2]
int32_t read_pair(JsonFields& fields, std::string_view name, const Vocabulary& vocabulary) {
  const Json& pair = fields.list(name);
  if (pair.size() != 2 || !pair[0].is_string()) fields.refuse(name, "a token and its id");
  return known_id(token_id(pair[1], fields.where(name)), vocabulary, fields.where(name));
}

std::vector<int32_t> special_ids(JsonFields& fields, const std::string& name,
                                 const Vocabulary& vocabulary) {
  JsonFields specials(fields.object("special_tokens"), fields.where("special_tokens"));
  JsonFields special(specials.get(name), specials.where(name));
  std::vector<int32_t> ids;
  for (const Json& id : special.list("ids")) {
    ids.push_back(known_id(token_id(id, special.where("ids")), vocabulary, special.where("ids")));
  }
  return ids;
}

}  // namespace

PostProcessor::PostProcessor(const Json& json, const std::string& where,
                             const Vocabulary& vocabulary) {
  if (!json.is_null()) add(json, where, 0, vocabulary);
}

void PostProcessor::add(const Json& json, const std::string& where, int depth,
                        const Vocabulary& vocabulary) {
  check_depth(depth, where);
  JsonFields fields(json, where);
  const std::string type = fields.string("type");
  if (type == "Sequence") {
    const Json& list = fields.list("processors");
    for (size_t i = 0; i < list.size(); ++i) {
      add(list[i], fmt::format("{}[{}]", fields.where("processors"), i), depth + 1, vocabulary);
    }
  } else if (type == "TemplateProcessing") {
    add_template(fields, vocabulary);
  } else if (type == "ByteLevel") {  // changes offsets only
    fields.ignore({"add_prefix_space", "trim_offsets", "use_regex"});
  } else if (type == "RobertaProcessing" || type == "BertProcessing") {
    wrap({read_pair(fields, "cls", vocabulary)}, {read_pair(fields, "sep", vocabulary)});
    fields.ignore({"add_prefix_space", "trim_offsets"});
  } else {
    throw InputError("{} \"{}\" is not supported", fields.where("type"), printable(type));
  }
  fields.finish();
}

void PostProcessor::add_template(JsonFields& fields, const Vocabulary& vocabulary) {
  std::vector<int32_t> before;
  std::vector<int32_t> behind;
  bool text_seen = false;
  const Json& single = fields.list("single");
  for (size_t i = 0; i < single.size(); ++i) {
    JsonFields item(single[i], fmt::format("{}[{}]", fields.where("single"), i));
    const bool is_text = item.find("Sequence") != nullptr;
    const char* kind = is_text ? "Sequence" : "SpecialToken";
    JsonFields content(item.object(kind), item.where(kind));
    const std::string name = content.string("id");
    content.ignore({"type_id"});
    content.finish();
    item.finish();
    if (is_text) {
      if (name != "A" || text_seen) content.refuse("id", "A, once");
      text_seen = true;
    } else {
      std::vector<int32_t>& side = text_seen ? behind : before;
      const std::vector<int32_t> ids = special_ids(fields, name, vocabulary);
      side.insert(side.end(), ids.begin(), ids.end());
    }
  }
  if (!text_seen) fields.refuse("single", "a template with the sequence A");
  fields.ignore({"pair", "special_tokens"});  // of two texts at once, which nobody asks for here
  wrap(before, behind);
}

void PostProcessor::wrap(const std::vector<int32_t>& before, const std::vector<int32_t>& behind) {
  before_.insert(before_.begin(), before.begin(), before.end());
  behind_.insert(behind_.end(), behind.begin(), behind.end());
}

}  // namespace tandem::text
