// A tokenizer.json of any bytes is refused, or makes tokens of its vocabulary from any text, and
// text of any tokens, in a stream as at once.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "tandem/base/error.h"
#include "tandem/text/tokenizer.h"

namespace {

void try_out(const tandem::Tokenizer& tokenizer, std::string_view text) {
  std::vector<int32_t> ids = tokenizer.encode(text);
  for (const int32_t id : ids) {
    if (!tokenizer.token_of(id)) std::abort();
  }
  for (int32_t id = -1; id < 50; ++id) ids.push_back(id);
  tandem::DecodeStream stream(tokenizer, false);
  std::string streamed;
  for (const int32_t id : ids) streamed += stream.push(id);
  streamed += stream.finish();
  if (streamed != tokenizer.decode(ids, false)) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view file(reinterpret_cast<const char*>(data), size);
  try {
    const tandem::Tokenizer tokenizer = tandem::Tokenizer::parse(file, "fuzz");
    try_out(tokenizer, file.substr(0, 2000));
    try_out(tokenizer,
            "The fox 12ab\n\n  x<s>\xE2\x96\x81 \xFF\xE4\xB8\xAD\xCC\x81 aaaabbbb ab ab");
  } catch (const tandem::InputError&) {
    return 0;
  }
  return 0;
}
