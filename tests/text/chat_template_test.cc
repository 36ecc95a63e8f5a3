// The same text as Python's jinja2 gives for chat templates.
#include "tandem/text/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/refusal.h"
#include "model/temporary_directory.h"
#include "sanitized.h"
#include "text/fixtures.h"

namespace tandem {
namespace {

using Json = nlohmann::ordered_json;
using testing::HasSubstr;

TEST(ChatTemplate, RendersAsJinja2) {
  for (const Json& each : Json::parse(fixture_text("templates.json"))) {
    const auto source = each["template"].get<std::string>();
    SCOPED_TRACE(source);
    try {
      const std::string text = ChatTemplate::parse(source, "template").render(each["variables"]);
      EXPECT_EQ(text, each.value("text", "an error"));
    } catch (const InputError& e) {
      EXPECT_EQ(e.what(), "template: " + each.value("error", "no error"));
    }
  }
}

TEST(ChatTemplate, RefusesWhatIsNotSupportedOrWrong) {
  const struct {
    const char* source;
    const char* message;
  } cases[] = {
      {"a\n{% macro f() %}{% endmacro %}", "t: line 2: block 'macro', not supported here"},
      {"{{ x | nonsense }}", "t: line 1: filter 'nonsense', not supported"},
      {"{{ x is nonsense }}", "test 'nonsense', not supported"},
      {"{{ x.nonsense() }}", "method 'nonsense', not supported"},
      {"{% if x %}", "where {% endif %} should be"},
      {"{% endif %}", "block 'endif', not supported here"},
      {"{% for x %}", "a for without in"},
      {"{{ x", "a tag without end"},
      {"{{ 'x }}", "a string without end"},
      {"{# x", "a comment without end"},
      {"{{ a b }}", "where }} should be"},
      {"{{ }}", "where a value should be"},
      {"{{ 99999999999999999999 }}", "a number that is too large"},
  };
  for (const auto& each : cases) {
    EXPECT_THAT(refusal([&] { ChatTemplate::parse(each.source, "t"); }), HasSubstr(each.message));
  }
}

TEST(ChatTemplate, SaysWhatGoesWrongInARun) {
  const auto run = [](const std::string& source) {
    return refusal([&] { ChatTemplate::parse(source, "t").render(Json::object()); });
  };
  EXPECT_EQ(run("{{ raise_exception('roles!') }}"), "t: roles!");
  EXPECT_EQ(run("{{ strftime_now('%d') }}"), "t: function 'strftime_now' is not supported");
  EXPECT_THAT(run("{{ u.x }}"), HasSubstr("undefined"));
  EXPECT_THAT(run("{{ 1 + 'a' }}"), HasSubstr("no numbers"));
  EXPECT_THAT(run("{{ 1 // 0 }}"), HasSubstr("division by zero"));
  EXPECT_THAT(run("{% for i in range(10000000) %}{% endfor %}"), HasSubstr("too long"));
  if (!sanitized) {
    EXPECT_THAT(
        run("{% for i in range(2000) %}{% for j in range(2000) %}x{% endfor %}{% endfor %}"),
        HasSubstr("too many steps"));
  }
  EXPECT_THAT(run("{% set n = namespace(s='ab') %}{% for i in range(60) %}"
                  "{% set n.s = n.s ~ n.s %}{% endfor %}"),
              HasSubstr("64 MiB"));
  EXPECT_THAT(run("{{ " + std::string(100'000, '(') + std::string(100'000, ')') + " }}"),
              HasSubstr("nested too deep"));
  EXPECT_THAT(run("{{ " + std::string(100'000, '-') + "1 }}"), HasSubstr("nested too deep"));
}

// A copy of the conversation for each look at it would take minutes.
TEST(ChatTemplate, LongConversationsTakeLinearTime) {
  const ChatTemplate chat = ChatTemplate::parse(
      "{% for m in messages %}{% if messages | length > loop.index0 and messages[0].role == 'user' "
      "and messages[loop.index0 - 1]['role'] != 'x' %}{{ messages[loop.index0].content }}{% endif "
      "%}"
      "{% endfor %}",
      "t");
  Json messages = Json::array();
  for (int i = 0; i < 3000; ++i) {
    messages.push_back({{"role", "user"}, {"content", std::string(2000, 'x')}});
  }
  EXPECT_EQ(chat.render({{"messages", messages}}).size(), 6'000'000u);
}

TEST(ChatTemplate, IsFoundInAModelDirectory) {
  TemporaryDirectory directory;
  EXPECT_FALSE(ChatTemplate::read(directory.path()));
  directory.put("tokenizer_config.json",
                R"({"bos_token": {"content": "<s>"}, "eos_token": "</s>", "chat_template": [
                    {"name": "tool_use", "template": "t"},
                    {"name": "default", "template": "{{ bos_token }}{{ x }}{{ eos_token }}"}]})");
  EXPECT_EQ(ChatTemplate::read(directory.path())->render({{"x", 1}}), "<s>1</s>");
  directory.put("chat_template.jinja", "{{ eos_token }}!\n");
  EXPECT_EQ(ChatTemplate::read(directory.path())->render(Json::object()), "</s>!");
}

}  // namespace
}  // namespace tandem
