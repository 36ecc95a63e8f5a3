#!/usr/bin/env bash
# Speed against what this machine can do, measured in the same run, then training steps, too, against
# their prediction. Arguments go to `tandem bench`:
#   scripts/bench.sh --quick --json bench.json
set -euo pipefail
cd "$(dirname "$0")/.."
if [ ! -f build/build.ninja ]; then cmake --preset release; fi
cmake --build build --target tandem -j "${JOBS:-$(nproc)}"
build/tandem bench --model configs/models/shape-s "$@"
build/tandem calibrate --train --check --output build/local.yaml
