// Where a message between ranks of one world goes.
#pragma once

#include "tandem/comm/transport.h"

namespace tandem {

struct Envelope {
  int64_t epoch = 0;  // of the membership the sender belongs to
  int32_t from = -1, to = -1;
  Tag tag;
};

}  // namespace tandem
