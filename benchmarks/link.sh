#!/usr/bin/env bash
# Two machines of one core, joined by a link of 1 Gb/s: two network namespaces, a pair of veth devices with a token
# bucket (tbf) on both ends, each process kept to its core. Plans of two ranks over the link, and one core alone.
#   benchmarks/link.sh OUTPUT_DIR [CONTEXT...]      contexts: 128 unless given; TANDEM, MODEL, BATCH, NEW_TOKENS
set -euo pipefail
output=$1
shift
contexts=("${@:-128}")
root=$(cd "$(dirname "$0")/.." && pwd)
tandem=${TANDEM:-$root/build/tandem}
model=${MODEL:-$root/configs/models/shape-s}
batch=${BATCH:-32}
new_tokens=${NEW_TOKENS:-16}
mkdir -p "$output"

. "$root/scripts/two-machines.sh"
trap remove_two_machines EXIT
make_two_machines 10.78.0
for side in "$one 1" "$two 2"; do
  read -r name number <<< "$side"
  ip netns exec "$name" tc qdisc add dev "veth$number" root tbf rate 1gbit burst 256kb latency 50ms
done

# Called as SHELL HOST PROGRAM ...: the first machine has core 0, the second core 1.
shell=$output/shell
cat > "$shell" << EOF
#!/bin/sh
name=\$1
shift
core=0
[ "\$name" = "$two" ] && core=1
exec taskset -c \$core ip netns exec "\$name" "\$@"
EOF
chmod +x "$shell"
printf '%s\n%s\n' "$one" "$two" > "$output/hosts"

work=(compare --model "$model" --random-weights 1 --dtype bf16 --batch "$batch" --new-tokens "$new_tokens" --threads 1)
for context in "${contexts[@]}"; do
  taskset -c 0 "$tandem" "${work[@]}" --prompt-length "$context" --plans single \
    --json "$output/one-core-$context.json"
  UCX_TLS=tcp taskset -c 0 ip netns exec "$one" "$tandem" launch \
    --hosts "$output/hosts" --remote-shell "$shell" --listen 10.78.0.1:0 -- "${work[@]}" --prompt-length "$context" \
    --plans "ma:attention=1,experts=1;ma:attention=1,experts=1,micro_batches=2;tp:ranks=2;pp:stages=2,micro_batches=2;ep:ranks=2" \
    --json "$output/link-$context.json"
done
