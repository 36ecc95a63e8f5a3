// A chat template of any bytes is refused, by its parser or in its run, or gives a text.
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>

#include "tandem/base/error.h"
#include "tandem/text/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view source(reinterpret_cast<const char*>(data), size);
  static const auto variables = nlohmann::ordered_json::parse(R"({
      "messages": [{"role": "system", "content": " a "}, {"role": "user", "content": "b\u00e9"}],
      "add_generation_prompt": true, "bos_token": "<s>", "eos_token": "</s>", "tools": null})");
  try {
    (void)tandem::ChatTemplate::parse(source, "fuzz").render(variables);
  } catch (const tandem::InputError&) {
    return 0;
  }
  return 0;
}
