#include "tandem/text/decoder.h"

#include "tandem/base/error.h"
#include "tandem/model/json_text.h"
#include "tandem/text/decoder_stages.h"
#include "tandem/text/normalizer.h"
#include "tandem/text/utf8.h"

namespace tandem::text {

Decoder::Decoder(const Json& json, const std::string& where) {
  if (json.is_null()) {
    steps_.push_back(join_with_spaces());
  } else {
    add(json, where, 0);
  }
}

void Decoder::add(const Json& json, const std::string& where, int depth) {
  check_depth(depth, where);
  JsonFields fields(json, where);
  const std::string type = fields.string("type");
  if (type == "Sequence") {
    const Json& list = fields.list("decoders");
    for (size_t i = 0; i < list.size(); ++i) {
      add(list[i], fmt::format("{}[{}]", fields.where("decoders"), i), depth + 1);
    }
  } else if (type == "Fuse") {  // what follows sees one token
    joined_ = true;
  } else if (type == "Strip") {
    add_strip(fields);
  } else if (joined_) {
    throw InputError("{} \"{}\" behind ByteLevel or Fuse is not supported", where, printable(type));
  } else if (type == "ByteLevel") {
    steps_.push_back(byte_level_decoding());
    joined_ = true;
    fields.ignore({"add_prefix_space", "trim_offsets", "use_regex"});
  } else if (type == "ByteFallback") {
    steps_.push_back(byte_fallback_decoding());
  } else if (type == "Metaspace") {
    steps_.push_back(metaspace_decoding(read_metaspace(fields)));
  } else if (type == "Replace") {
    steps_.push_back(each_token(replacement(fields)));
  } else {
    throw InputError("{} \"{}\" is not supported", fields.where("type"), printable(type));
  }
  fields.finish();
}

void Decoder::add_strip(JsonFields& fields) {
  Strip strip;
  strip.character = fields.string("content");
  if (strip.character.empty() || character_bytes(strip.character[0]) != strip.character.size()) {
    fields.refuse("content", "one character");
  }
  const auto count = [&](std::string_view name) {
    const Json& value = fields.get(name);
    if (!value.is_number_unsigned()) fields.refuse(name, "a count");
    return value.get<size_t>();
  };
  strip.start = count("start");
  strip.stop = count("stop");
  steps_.push_back(joined_ ? strip_text(strip) : strip_tokens(strip));
}

Decoder::Run::Run(const Decoder& decoder) {
  for (const DecoderStep& step : decoder.steps_) stages_.push_back(step());
}

void Decoder::Run::pass(size_t stage, std::string token, std::string& out) {
  if (stage == stages_.size()) {
    out += token;
    return;
  }
  stages_[stage]->token(std::move(token),
                        [&, stage](std::string text) { pass(stage + 1, std::move(text), out); });
}

void Decoder::Run::token(std::string token, std::string& out) { pass(0, std::move(token), out); }

void Decoder::Run::finish(std::string& out) {
  for (size_t stage = 0; stage < stages_.size(); ++stage) {
    stages_[stage]->finish([&, stage](std::string text) { pass(stage + 1, std::move(text), out); });
  }
}

}  // namespace tandem::text
