// A server's figures in the text format of Prometheus.
#pragma once

#include <string>

#include "tandem/serve/statistics.h"

namespace tandem {

std::string prometheus_text(const Statistics& statistics, bool healthy);

}  // namespace tandem
