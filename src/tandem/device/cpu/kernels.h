// The kernels behind the CPU device: one overload of cpu::run for each operation, one file a
// family. All are pure functions of the operation; thread safe as long as what they write is not
// shared.
#pragma once

#include "tandem/device/device.h"

namespace tandem::cpu {

#define TANDEM_RUN(Operation) void run(const Operation& op, int threads);
TANDEM_OPERATIONS(TANDEM_RUN)
#undef TANDEM_RUN

}  // namespace tandem::cpu
