#!/usr/bin/env bash
# Builds the tests under one sanitizer preset and runs them; any report fails its test.
#   scripts/sanitize.sh asan|tsan BUILD_JOBS TEST_JOBS
set -euo pipefail
cd "$(dirname "$0")/.."
preset=$1
jobs=${2:-$(nproc)}
test_jobs=${3:-2}

if [ ! -f "build-$preset/build.ninja" ] || [ CMakePresets.json -nt "build-$preset/build.ninja" ]; then
  cmake --preset "$preset"
fi
cmake --build "build-$preset" -j "$jobs"

export ASAN_OPTIONS=halt_on_error=1:detect_stack_use_after_return=1:strict_string_checks=1
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1

runner=()
if [ "$preset" = tsan ]; then
  # GCC 12's thread sanitizer cannot place its shadow memory where addresses are drawn with more
  # than 28 bits of randomness (the default of newer kernels).
  if setarch "$(uname -m)" -R true 2> /dev/null; then runner=(setarch "$(uname -m)" -R); fi
fi
"${runner[@]}" ctest --test-dir "build-$preset" --output-on-failure -j "$test_jobs" -LE install
