#!/usr/bin/env bash
# The layers, three ways:
#   1. every #include in src/tandem/LAYER and tests/LAYER names a layer that CMakeLists.txt lists
#      for LAYER, and none goes around that with a relative path;
#   2. with the include paths of its own CMake target, no layer finds a header of one it may not use;
#   3. files that have grown long are named (a warning).
# Usage: scripts/check-layers.sh BUILD      (a configured build folder)
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}
failures=0

fail() {
  echo "layers: $*" >&2
  failures=$((failures + 1))
}

# allowed[LAYER]: the layer itself and its USES, from the tandem_layer(...) lines.
declare -A allowed
layers=()
calls=$(tr '\n' ' ' < <(sed 's/#.*//' CMakeLists.txt) | grep -oE 'tandem_layer\([^)]*\)')
while read -r call; do
  words=${call#tandem_layer(}
  read -r -a words <<< "${words%)}"
  layer=${words[0]}
  layers+=("$layer")
  allowed[$layer]=" $layer "
  in_uses=false
  for word in "${words[@]:1}"; do
    case "$word" in
      USES) in_uses=true ;;
      LIBRARIES) in_uses=false ;;
      *) if $in_uses; then allowed[$layer]+="$word "; fi ;;
    esac
  done
  for used in ${allowed[$layer]}; do # a layer uses only what stands above it in the file
    if [ -z "${allowed[$used]:-}" ]; then fail "$layer uses $used, which is not defined before it"; fi
  done
done <<< "$calls"
if [ ${#layers[@]} -eq 0 ]; then
  echo "layers: found no tandem_layer lines in CMakeLists.txt" >&2
  exit 1
fi

for folder in src/tandem/*/; do
  layer=$(basename "$folder")
  if [ -z "${allowed[$layer]:-}" ]; then fail "$folder is not a layer of CMakeLists.txt"; fi
done

# 1. What the sources say.
includes=0
for layer in "${layers[@]}"; do
  while IFS=: read -r file line text; do
    includes=$((includes + 1))
    header=$(sed -E 's/.*"([^"]*)".*/\1/' <<< "$text")
    case "$header" in
      ../* | */../*) fail "$file:$line: relative include of $header" ;;
      tandem/*/*)
        used=${header#tandem/}
        used=${used%%/*}
        if [[ "${allowed[$layer]}" != *" $used "* ]]; then
          fail "$file:$line: $layer must not include $header (it may use:${allowed[$layer]% })"
        fi ;;
    esac
  done < <(grep -rnE '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' --include='*.h' --include='*.cc' \
             "src/tandem/$layer" "tests/$layer" 2> /dev/null || true)
done

# 2. What the compiler sees.
probe=$(mktemp --suffix=.cc)
trap 'rm -f "$probe"' EXIT
compiles() { # LAYER HEADER
  echo "#include \"$2\"" > "$probe"
  # shellcheck disable=SC2086
  "${CXX:-g++}" -std=c++20 -fsyntax-only ${flags[$1]} "$probe" > /dev/null 2>&1
}
declare -A flags header_of
for layer in "${layers[@]}"; do
  command=$(grep -m1 -E "\"command\":.*CMakeFiles/tandem_$layer\.dir/" "$build/compile_commands.json" || true)
  flags[$layer]=$(grep -oE -- '-I[^ ]+' <<< "$command" | tr '\n' ' ' || true)
  if [ -z "${flags[$layer]}" ]; then fail "no compile command of tandem_$layer in $build"; fi
  header=$(find "src/tandem/$layer" -name '*.h' 2> /dev/null | sort | head -n 1)
  header_of[$layer]=${header#src/}
done
probes=0
for layer in "${layers[@]}"; do
  if [ -z "${flags[$layer]}" ]; then continue; fi
  for other in "${layers[@]}"; do
    if [ -z "${header_of[$other]}" ] || [[ "${allowed[$layer]}" == *" $other "* ]]; then continue; fi
    probes=$((probes + 1))
    if compiles "$layer" "${header_of[$other]}"; then
      fail "a file of $layer that includes ${header_of[$other]} compiles"
    fi
  done
done
# The probes mean something only if the same command accepts what is allowed.
if ! compiles base tandem/base/error.h; then fail "a file of base cannot include tandem/base/error.h"; fi

# 3. Length.
while read -r lines file; do
  limit=400
  if [[ "$file" == examples/* ]]; then limit=60; fi
  if [ "$file" != total ] && [ "$lines" -gt "$limit" ]; then
    echo "layers: warning: $file has $lines lines (more than $limit)" >&2
  fi
done < <(find src tests examples \( -name '*.h' -o -name '*.cc' \) -exec wc -l {} +)

if [ "$failures" -gt 0 ]; then
  echo "layers: $failures violations" >&2
  exit 1
fi
echo "layers: $includes includes of ${#layers[@]} layers allowed, $probes forbidden ones do not compile"
