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

# The thread sanitizer has something to see in layers with threads alone.
targets=() tests=.
if [ "$preset" = tsan ]; then
  layers=(base model text device comm runtime world planner train serve)
  targets=(--target tandem "${layers[@]/#/test_}")
  tests="^($(IFS='|'; echo "${layers[*]}")|cluster_namespaces)\$"
fi
cmake --build "build-$preset" -j "$jobs" "${targets[@]}"

export ASAN_OPTIONS=halt_on_error=1:detect_stack_use_after_return=1:strict_string_checks=1
# UCX 1.13 now and then leaks a small table of a shared memory endpoint, 100 bytes in all.
suppressions=$(mktemp)
trap 'rm -f "$suppressions"' EXIT
echo 'leak:libuct.so' > "$suppressions"
export LSAN_OPTIONS=suppressions=$suppressions:print_suppressions=0
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1
# UCX rewrites libc's madvise, which GCC's thread sanitizer does not survive at the end of a thread.
export UCX_MEM_MMAP_HOOK_MODE=none

runner=()
if [ "$preset" = tsan ]; then
  # GCC 12's thread sanitizer cannot place its shadow memory where addresses are drawn with more
  # than 28 bits of randomness (the default of newer kernels).
  if setarch "$(uname -m)" -R true 2> /dev/null; then runner=(setarch "$(uname -m)" -R); fi
fi
"${runner[@]}" ctest --test-dir "build-$preset" --output-on-failure -j "$test_jobs" \
  -R "$tests" -LE install
