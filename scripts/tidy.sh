#!/usr/bin/env bash
# clang-tidy over the sources of a configured build folder; the checks are in .clang-tidy.
#   scripts/tidy.sh BUILD JOBS
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}
jobs=${2:-$(nproc)}

# src, examples and benchmarks; not tests, whose GoogleTest macros cost more than they would show.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
started=$SECONDS
status=0
# Kernels are looked at as compiled for one instruction set (AVX2), not for each.
run-clang-tidy-14 -quiet -p "$build" -j "$jobs" \
  -extra-arg=-DHWY_COMPILE_ONLY_STATIC -extra-arg=-march=skylake \
  "^$PWD/(src|examples|benchmarks)/" > "$log" 2>&1 ||
  status=$?
# The runner prints every command and clang's count of suppressed warnings: show findings only.
sed -i 's/\x1b\[[0-9;]*m//g' "$log"
files=$(grep -c '^clang-tidy-14 ' "$log" || true)
if [ "$status" -ne 0 ] || [ "$files" -eq 0 ]; then
  grep -Ev '^clang-tidy-14 |^[0-9]+ warnings?( and [0-9]+ errors?)? generated|^$' "$log" >&2 || true
  echo "clang-tidy: failed on $files files in $((SECONDS - started)) s" >&2
  exit 1
fi
echo "clang-tidy: $files files clean in $((SECONDS - started)) s"
