// A device on which everything takes a number of times as long: it sleeps after each operation.
#pragma once

#include <memory>

#include "tandem/device/device.h"

namespace tandem {

// pace >= 1.
std::unique_ptr<Device> make_paced_device(std::unique_ptr<Device> device, double pace);

}  // namespace tandem
