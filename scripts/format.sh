#!/usr/bin/env bash
# Formats the sources in place; with --check only says what is not formatted, and fails.
set -euo pipefail
cd "$(dirname "$0")/.."

mode=(-i)
if [ "${1:-}" = --check ]; then mode=(--dry-run -Werror); fi
formatter=$(command -v clang-format-14 || command -v clang-format)
folders=()
for folder in src tests examples benchmarks; do
  if [ -d "$folder" ]; then folders+=("$folder"); fi
done
find "${folders[@]}" \( -name '*.cc' -o -name '*.h' \) -print0 |
  xargs -0 --no-run-if-empty "$formatter" --style=file "${mode[@]}"
