#!/usr/bin/env bash
# Throughput between two processes: ours beside ucx_perftest's (Debian's ucx-utils), in turn; through
# shared memory, and through TCP as between two machines.
#   benchmarks/transport.sh BUILD_DIR [ROUNDS]      a build with TANDEM_BUILD_BENCHMARKS=ON
set -euo pipefail
build=$1
rounds=${2:-3}
command -v ucx_perftest > /dev/null || { echo "ucx_perftest is missing: Debian's package ucx-utils" >&2; exit 2; }

perftest() { # SIZE COUNT: bytes a second
  ucx_perftest -p 13999 > /dev/null 2>&1 &
  sleep 0.5
  ucx_perftest 127.0.0.1 -p 13999 -t ucp_am_bw -s "$1" -n "$2" -O 32 -w 1000 -f -v 2> /dev/null | tail -1 |
    awk -F, '{ printf "%.0f\n", $6 * 1048576 }'
  wait
}

for lane in "all near" "tcp far"; do
  read -r transports where <<< "$lane"
  export UCX_TLS=$transports
  for size_count in "16384 100000" "1048576 5000"; do
    read -r size count <<< "$size_count"
    for _ in $(seq "$rounds"); do
      theirs=$(perftest "$size" "$count")
      ours=$("$build/benchmarks/transport" "$size" "$count" "$where")
      awk -v lane="$lane" -v size="$size" -v a="$ours" -v b="$theirs" 'BEGIN {
        printf "%s, %7d bytes: %6.2f GB/s, ucx_perftest %6.2f GB/s: %.2f times as long\n", lane, size, a / 1e9, b / 1e9, b / a }'
    done
  done
done
