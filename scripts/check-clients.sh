#!/usr/bin/env bash
# A server with random weights, tried by the openai package (from PyPI) and by headless Chromium.
#   scripts/check-clients.sh [PORT]
set -euo pipefail
cd "$(dirname "$0")/.."

port=${1:-8011}
url=http://127.0.0.1:$port
venv=build/clients
[ -x $venv/bin/python ] || python3 -m venv $venv
$venv/bin/pip install --quiet openai

build/tandem serve --model configs/models/ma-64 --random-weights 1 \
  --plan ma:attention=2,experts=2,micro_batches=2 --port "$port" &
server=$!
trap 'kill $server; wait $server' EXIT
for _ in $(seq 100); do
  curl --silent --fail --output /dev/null $url/health && break
  sleep 0.1
done

$venv/bin/python tests/serve/openai_client.py $url ma-64
/usr/bin/python3 tests/serve/status_page.py $url
