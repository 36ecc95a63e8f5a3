#!/usr/bin/env bash
# Two network namespaces, joined by a pair of veth devices, as two machines: a run over both gives
# the tokens and losses of one process, also when the link goes down in the middle.
#   namespaces.sh TANDEM SOURCE_DIR      exit status 77: not permitted here
set -euo pipefail
tandem=$1
source_dir=$2

. "$source_dir/scripts/two-machines.sh"
work=$(mktemp -d)
trap 'remove_two_machines; rm -rf "$work"' EXIT

skip() {
  echo "namespaces.sh: skipped: $1"
  exit 77
}
command -v ip > /dev/null || skip "no ip (Debian's iproute2)"
make_two_machines 10.77.0 || skip "network namespaces or veth devices are not permitted here"

printf '%s slots=2\n%s slots=2  # the other machine\n' "$one" "$two" > "$work/hosts"
# Shared memory would reach past the link; a machine whose link is down still reaches itself.
export UCX_TLS=tcp UCX_NET_DEVICES=veth1,veth2
launch=(ip netns exec "$one" "$tandem" launch --hosts "$work/hosts"
        --remote-shell "ip netns exec" --listen 10.77.0.1:0 --)

model=(--model "$source_dir/configs/models/ma-64" --random-weights 1)
generate=(generate "${model[@]}" --plan ma:attention=2,experts=2,micro_batches=2
          --prompt-tokens 5,6,7 --new-tokens)
tokens() { grep -A1000 '"tokens": \[' "$1" | sed '/\]/q' | tr -d ' \n'; }

"$tandem" "${generate[@]}" 40 --json "$work/here.json" > /dev/null 2>&1
"${launch[@]}" "${generate[@]}" 40 --json "$work/there.json" > /dev/null 2> "$work/log" ||
  { cat "$work/log"; exit 1; }
[ "$(tokens "$work/here.json")" = "$(tokens "$work/there.json")" ] ||
  { echo "namespaces.sh: other tokens over the link"; exit 1; }
echo "namespaces.sh: the same tokens over the link"

head -c 60000 "$source_dir/docs/architecture.md" > "$work/text"
train=(train "${model[@]}" --plan ma:attention=2,experts=2 --data "$work/text" --steps 12 --batch 4
       --sequence-length 32 --save-every 4)
losses() { grep '"loss"' "$1"; }
"$tandem" "${train[@]}" --output "$work/run1" --json "$work/here.json" > /dev/null 2>&1
"${launch[@]}" "${train[@]}" --output "$work/run2" --json "$work/there.json" > /dev/null 2> "$work/log" ||
  { cat "$work/log"; exit 1; }
[ "$(losses "$work/here.json")" = "$(losses "$work/there.json")" ] ||
  { echo "namespaces.sh: other losses over the link"; exit 1; }
echo "namespaces.sh: the same losses over the link"

# The link goes down once text has come: the other machine's processes are given up after 0.8 s of silence.
"$tandem" "${generate[@]}" 1500 --json "$work/here.json" > /dev/null 2>&1
: > "$work/text"
(
  until [ -s "$work/text" ] || [ -e "$work/done" ]; do sleep 0.02; done
  ip -n "$one" link set veth1 down
) &
"${launch[@]}" "${generate[@]}" 1500 --json "$work/there.json" > "$work/text" 2> "$work/log" ||
  { touch "$work/done"; cat "$work/log"; exit 1; }
touch "$work/done"
wait
[ "$(tokens "$work/here.json")" = "$(tokens "$work/there.json")" ] ||
  { echo "namespaces.sh: other tokens where the link went down"; exit 1; }
grep -q "is lost" "$work/log" || { echo "namespaces.sh: the link going down was not noticed"; exit 1; }
echo "namespaces.sh: the same tokens where the link went down"
