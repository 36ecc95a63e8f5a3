#!/usr/bin/env bash
# The main job on real input: trains a small mixture of experts on Jane Austen's novels under a
# separated plan with uneven heads (3, 3 and 2 of 8), writes text with it, and compares strategies.
# Everything goes to build/demo. STEPS=N trains for longer or shorter.
set -euo pipefail
cd "$(dirname "$0")/.."
tandem=build/tandem
out=build/demo
plan=ma:attention=3,experts=2,micro_batches=2
steps=${STEPS:-450}
most_training_seconds=240 # on a slow machine the run is stopped then, which saves it

if [ ! -x "$tandem" ]; then
  echo "demo.sh: $tandem is missing: run 'make build' first" >&2
  exit 1
fi
mkdir -p "$out"

# The text: a Debian package, unpacked but not installed.
text=$out/austen.txt
if [ ! -s "$text" ]; then
  package=r-cran-janeaustenr
  echo "== Text: Jane Austen's novels, from the Debian package $package"
  rm -rf "$out/package" && mkdir -p "$out/package"
  # apt fetches as a user of its own, who has to be able to write here.
  if ! (cd "$out/package" && apt-get -q -o APT::Sandbox::User=root download "$package"); then
    echo "demo.sh: cannot download $package; is the machine online ('apt-get update')?" >&2
    echo "demo.sh: any English text will do: put it into $text and start again" >&2
    exit 1
  fi
  dpkg-deb -x "$out"/package/*.deb "$out/package"
  python3 scripts/austen.py "$(find "$out/package" -path '*/data/Rdata.rdb')" "$text.partial"
  mv "$text.partial" "$text"
fi

echo
echo "== Training: 26 million parameters, 16 experts (top-2), plan $plan, about two minutes"
rm -rf "$out/model"
status=0
timeout --signal=INT "$most_training_seconds" "$tandem" train --model configs/models/demo \
  --random-weights 1 --dtype bf16 --data "$text" --output "$out/model" --plan "$plan" \
  --steps "$steps" --batch 8 --sequence-length 256 --learning-rate 2.5e-3 --evaluate-every 50 \
  --json "$out/history.json" || status=$?
if [ "$status" -ne 0 ] && [ "$status" -ne 124 ]; then exit "$status"; fi

echo
echo "== Held-out text"
"$tandem" evaluate --model "$out/model" --data "$text" --sequence-length 256 --batch 8 --plan "$plan"

echo
echo "== What it writes, under the same plan"
for prompt in "It is a truth universally acknowledged, that " "Emma was " "\"My dear Mr. Darcy,\" said "; do
  printf '\n%s' "$prompt"
  "$tandem" generate --model "$out/model" --plan "$plan" --prompt "$prompt" --new-tokens 190 \
    --temperature 0.6 --top-p 0.95 --seed 3 2> /dev/null
  echo
done

echo
echo "== The same work under every strategy"
"$tandem" compare --model "$out/model" --batch 8 --prompt-length 64 --new-tokens 64 \
  --plans "single;tp:ranks=2;pp:stages=2;ep:ranks=2;ma:attention=1,experts=1;ma:attention=1,experts=1,micro_batches=2;$plan" \
  --json "$out/compare.json" --html "$out/report.html" --history "$out/history.json" 2> "$out/compare.log" ||
  { cat "$out/compare.log" >&2; exit 1; }

echo
echo "Report: $PWD/$out/report.html"
echo "Model:  $PWD/$out/model   ($tandem generate --model $out/model --prompt ... goes on with it)"
