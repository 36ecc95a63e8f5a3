// A cluster file of any bytes is refused, or is a cluster that survives being written; so with the
// text of a fault, which then is of something in the cluster or is refused.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "tandem/base/error.h"
#include "tandem/cluster/cluster.h"
#include "tandem/cluster/fault.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    const tandem::Fault fault = tandem::parse_fault(text.substr(0, text.find('\n')));
    if (!(fault.slow >= 1) || !(fault.at_seconds >= 0)) std::abort();
    tandem::Cluster two;
    two.nodes.assign(2, {.devices = {0, 0}, .nic = {.bytes_per_second = 1}});
    tandem::check(fault, two, 3);
  } catch (const tandem::InputError&) {
    // Then it may be a cluster.
  }
  try {
    const tandem::Cluster cluster = tandem::parse_cluster(text, "fuzz");
    const std::string written = tandem::cluster_yaml(cluster);
    if (tandem::cluster_yaml(tandem::parse_cluster(written, "written")) != written) std::abort();
  } catch (const tandem::InputError&) {
    return 0;
  }
  return 0;
}
