// A program outside the source tree that uses an installed Tandem.
#include <cstdio>
#include <vector>

#include "tandem/base/interval.h"
#include "tandem/device/cpu/cpu_device.h"

int main() {
  const auto device = tandem::make_cpu_device(1);
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  const tandem::Tensor t = device->upload(std::span<const float>(values), 2, 3);
  float sum = 0;
  for (const float v : device->floats(t)) sum += v;
  const tandem::Interval heads = tandem::part(32, 12, 11);
  std::printf("sum %g, heads %d to %d\n", sum, static_cast<int>(heads.begin),
              static_cast<int>(heads.end));
  return sum == 21.0f && heads.end == 32 ? 0 : 1;
}
