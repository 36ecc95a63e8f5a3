#!/usr/bin/env bash
# Mistakes get one clear line on stderr and exit status 2, and nothing is written.
# Usage: errors.sh PROGRAM SOURCE_DIR
set -u
tandem=$1 models=$2/configs/models
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

refuses() {  # refuses TEXT_IN_MESSAGE ARGUMENTS...
  local expected=$1
  shift
  "$tandem" "$@" >"$work/out" 2>"$work/err"
  local status=$?
  if [ $status -ne 2 ] || ! grep -qF -- "$expected" "$work/err" || [ -s "$work/out" ] ||
    [ "$(wc -l <"$work/err")" -gt 1 ]; then
    echo "FAILED: tandem $*: status $status, expected 2 and one line with '$expected', got:"
    cat "$work/err"
    failures=$((failures + 1))
  fi
}

tiny=$models/ma-64
random="--random-weights 1"
generate="generate --model $tiny $random --new-tokens 2 --prompt ab"
refuses "$work/none" generate --model "$work/none" --prompt a --new-tokens 1
refuses "has no weights" generate --model "$tiny" --prompt a --new-tokens 1
refuses "not a number" generate --model "$tiny" --random-weights x1 --prompt a --new-tokens 1
refuses "dtype 'f64'" $generate --dtype f64
refuses "neither a file nor" $generate --plan wrong
refuses "is not an option" $generate --plan tp:rank=2
refuses "heads" $generate --plan ma:attention=400,experts=1
refuses "--temperature" $generate --temperature -1
refuses "--top-p" $generate --top-p 0
refuses "positions" generate --model "$tiny" $random --prompt a --new-tokens 100000
refuses "--prompt-tokens" generate --model "$tiny" $random --prompt-tokens 1,x --new-tokens 1
refuses "vocabulary" generate --model "$tiny" $random --prompt-tokens 99999 --new-tokens 1
serve="serve --model $tiny $random --port 0"
refuses "--sequences 0" $serve --sequences 0
refuses "--kv-tokens -1" $serve --kv-tokens -1
refuses "--port 70000" serve --model "$tiny" $random --port 70000
refuses "--host" $serve --host nowhere.invalid
refuses "--request-seconds" $serve --request-seconds 0
refuses "--clients or --rate" load
refuses "--url nowhere" load --url nowhere --clients 1
refuses "--prompts $work/none" load --clients 1 --prompts "$work/none"
refuses "--data" train --model "$tiny" $random --output "$work/run" --steps 1 --batch 1 --sequence-length 8
refuses "$work/no.txt" train --model "$tiny" $random --data "$work/no.txt" --output "$work/run" \
  --steps 1 --batch 1 --sequence-length 8
refuses "--steps" train --model "$tiny" $random --data "$0" --output "$work/run" \
  --steps 0 --batch 1 --sequence-length 8
refuses "--resume" train --model "$tiny" $random --data "$0" --output "$work/run" --resume \
  --steps 1 --batch 1 --sequence-length 8
[ ! -e "$work/run" ] || { echo "FAILED: a refused run wrote $work/run"; failures=$((failures + 1)); }
llama=$2/tests/parity/llama
refuses "is there already" convert --from "$llama" --to "$work"
refuses "--dtype int8" convert --from "$llama" --to "$work/to" --dtype int8
refuses "a mixture already" convert --from "$2/tests/parity/mixtral" --to "$work/to" --experts 4
refuses "--top-k" convert --from "$llama" --to "$work/to" --top-k 1
refuses "has no weights" convert --from "$tiny" --to "$work/to"
[ ! -e "$work/to" ] || { echo "FAILED: a refused convert wrote $work/to"; failures=$((failures + 1)); }

mkdir "$work/broken"
cp "$tiny/config.json" "$work/broken"
head -c 100 /dev/urandom >"$work/broken/model.safetensors"
refuses "model.safetensors" generate --model "$work/broken" --prompt a --new-tokens 1
echo '{"hidden_size": -4}' >"$work/broken/config.json"
refuses "config.json" generate --model "$work/broken" --prompt a --new-tokens 1
cluster=$2/configs/clusters/a100-16.yaml
simulate="simulate --model $tiny --batch 4 --context 8"
refuses "$work/none.yaml" $simulate --cluster "$work/none.yaml"
refuses "device 16" $simulate --cluster "$cluster" --plan pp:stages=1,copies=17
refuses "choose one" $simulate --cluster "$cluster" --train --prefill
refuses "--batch 0" simulate --model "$tiny" --cluster "$cluster" --batch 0
refuses "--routing" $simulate --cluster "$cluster" --routing zipf:-1
refuses "--contexts $work/none" simulate --model "$tiny" --cluster "$cluster" --contexts "$work/none"
refuses "choose one" $simulate --cluster "$cluster" --train --mixed
refuses "equally long" $simulate --cluster "$cluster" --train --context-spread 2
refuses "--chunk 0" $simulate --cluster "$cluster" --mixed --chunk 0
refuses "rank 1 of 1 in the plan" $simulate --cluster "$cluster" --fault rank:1
refuses "node 4 of 4 in cluster" $simulate --cluster "$cluster" --fault link:node0-node4,slow=2
refuses "expected rank:N" $simulate --cluster "$cluster" --fault disk:1
refuses "at least 1" $simulate --cluster "$cluster" --fault rank:0,slow=0.5
refuses "--balance -1" $simulate --cluster "$cluster" --balance -1
refuses "--balance-threshold 2" $simulate --cluster "$cluster" --balance 10 --balance-threshold 2
refuses "--balance-attention 8" $simulate --cluster "$cluster" --balance 10 --balance-attention 8
refuses "--slow 0:x" generate --model "$tiny" --random-weights 1 --prompt a --new-tokens 1 --slow 0:x
refuses "--slow 0:0.5" generate --model "$tiny" --random-weights 1 --prompt a --new-tokens 1 --slow 0:0.5
mkdir "$work/words" && cp "$tiny/config.json" "$2/tests/text/fixtures/llama3/tokenizer.json" "$work/words"
refuses "but the model's vocab_size is" generate --model "$work/words" --random-weights 1 --prompt a --new-tokens 1
sed 's/bytes_per_second: 25e9/bytes_per_second: 0/' "$cluster" >"$work/slow.yaml"
refuses "nic, bytes_per_second: 0 must be above zero" $simulate --cluster "$work/slow.yaml"
sed '/nic:/d' "$cluster" >"$work/apart.yaml"
refuses "no route to the others" $simulate --cluster "$work/apart.yaml"
refuses "--largest-batch 8" plan --model "$tiny" --cluster "$cluster" --batch 16 --largest-batch 8
refuses "no plan makes a step" plan --model "$tiny" --cluster "$cluster" --batch 16 --context 8 \
  --tpot-limit 1e-9
refuses "$work/none.yaml" reproduce "$work/none.yaml"
refuses "no table 9.9" reproduce "$2/configs/papers/ma-separation.yaml" --table 9.9
sed 's/metric: step_seconds/metric: seconds/' "$2/configs/papers/ma-separation.yaml" >"$work/papers.yaml"
refuses "no metric 'seconds'" reproduce "$work/papers.yaml"
refuses "--x" sweep --model "$tiny" --cluster "$cluster" --x context --y batch=1..2
echo "1,2,-3" >"$work/loads.csv"
refuses "expert 2: a load of -3" place --loads "$work/loads.csv" --ranks 1
echo "1,nan,3" >"$work/loads.csv"
refuses "expert 1: a load of nan" place --loads "$work/loads.csv" --ranks 1
echo "1,x,3" >"$work/loads.csv"
refuses "line 1: expected numbers" place --loads "$work/loads.csv" --ranks 1
[ $failures -eq 0 ] && echo "all refused"
exit $failures
