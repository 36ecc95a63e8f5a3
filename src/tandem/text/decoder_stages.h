// The steps that decoders are made of. Only decoder.cc needs them.
#pragma once

#include "tandem/text/decoder.h"
#include "tandem/text/metaspace.h"

namespace tandem::text {

DecoderStep join_with_spaces();
DecoderStep byte_level_decoding();
DecoderStep byte_fallback_decoding();
DecoderStep each_token(std::function<std::string(std::string)> change);
DecoderStep metaspace_decoding(const Metaspace& metaspace);

// Takes up to `start` and `stop` times `character` off the beginning and the end: of each token, or
// of the text that all tokens make together.
struct Strip {
  std::string character;
  size_t start = 0;
  size_t stop = 0;
};
DecoderStep strip_tokens(const Strip& strip);
DecoderStep strip_text(const Strip& strip);

}  // namespace tandem::text
