#!/usr/bin/env bash
# Builds the fuzz targets and runs each for a while from its corpus (tests/fuzz/corpus/NAME).
#   scripts/fuzz.sh JOBS SECONDS
set -euo pipefail
cd "$(dirname "$0")/.."
jobs=${1:-$(nproc)}
seconds=${2:-60}

cmake --preset fuzz
cmake --build build-fuzz --target tests/fuzz/all -j "$jobs"
for program in build-fuzz/tests/fuzz/fuzz_*; do
  if [ ! -x "$program" ] || [ -d "$program" ]; then continue; fi
  name=$(basename "$program")
  name=${name#fuzz_}
  found=build-fuzz/corpus/$name
  mkdir -p "$found"
  corpora=("$found")
  if [ -d "tests/fuzz/corpus/$name" ]; then corpora+=("tests/fuzz/corpus/$name"); fi
  echo "== $name, $seconds s"
  "$program" -max_total_time="$seconds" -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="build-fuzz/$name-" "${corpora[@]}"
done
