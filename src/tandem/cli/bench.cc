#include "tandem/cli/commands.h"

namespace tandem::cli {

void add_bench(CLI::App&) {}

}  // namespace tandem::cli
