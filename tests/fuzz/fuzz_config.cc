// A config.json of any bytes is refused, or is a valid configuration that survives being written.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "tandem/base/error.h"
#include "tandem/model/config.h"
#include "tandem/model/parameters.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tandem::ModelConfig config;
  try {
    config = tandem::parse_config(std::string(reinterpret_cast<const char*>(data), size), "fuzz");
  } catch (const tandem::InputError&) {
    return 0;
  }
  // Outside the try: a configuration that was accepted must not be refused now.
  if (tandem::parse_config(tandem::config_json(config), "written") != config) std::abort();
  if (tandem::parameter_count(config) <= 0) std::abort();
  return 0;
}
