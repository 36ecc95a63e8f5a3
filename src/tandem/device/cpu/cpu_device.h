// The CPU as a device: products through AMX tiles or bf16 dot products where the processor has
// them, the rest with Highway. A set number of threads a rank.
#pragma once

#include <memory>

#include "tandem/device/device.h"

namespace tandem {

// threads >= 1: how many threads this rank's operations may use.
std::unique_ptr<Device> make_cpu_device(int threads);

}  // namespace tandem
