#!/usr/bin/env bash
# Installs the Debian 12 packages that the named sets need; does nothing where all are there.
#   scripts/install-packages.sh SET...     sets: build check bench clients fuzz demo
set -euo pipefail

# A library that draws the charts of the HTML reports, inlined by the program when it writes one.
chart_packages=(libjs-chart.js)
# What turns the text that `make demo` downloads into a text file (scripts/demo.sh).
demo_text_packages=(python3)

packages_of() {
  case "$1" in
    build)
      echo cmake ninja-build g++ make pkg-config libhwy-dev nlohmann-json3-dev \
        libpcre2-dev libutf8proc-dev \
        libyaml-cpp-dev libcli11-dev libcpp-httplib-dev libucx-dev libssl-dev iproute2 libspdlog-dev libfmt-dev zlib1g-dev libgtest-dev \
        "${chart_packages[@]}" ;;
    check) echo clang-format-14 clang-tidy-14 python3 ;;
    bench) echo libbenchmark-dev ;;
    clients) echo chromium-driver python3-selenium python3-venv curl ;;
    fuzz) echo clang-14 libclang-rt-14-dev ;;
    demo) echo "${demo_text_packages[@]}" ;;
    *) echo "install-packages.sh: unknown set '$1' (sets: build check bench clients fuzz demo)" >&2
       return 2 ;;
  esac
}

if [ $# -eq 0 ]; then
  echo "usage: scripts/install-packages.sh SET...   sets: build check bench clients fuzz demo" >&2
  exit 2
fi

wanted=()
for set in "$@"; do
  list=$(packages_of "$set")
  read -r -a packages <<< "$list"
  wanted+=("${packages[@]}")
done

if ! command -v dpkg-query > /dev/null; then
  echo "install-packages.sh: no dpkg here; install what corresponds to: ${wanted[*]}" >&2
  exit 0
fi

missing=()
for package in "${wanted[@]}"; do
  status=$(dpkg-query -W -f '${db:Status-Status}\n' "$package" 2> /dev/null || true)
  grep -qx installed <<< "$status" || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then exit 0; fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo > /dev/null; then
    echo "install-packages.sh: missing packages: ${missing[*]}" >&2
    echo "Neither root nor sudo here. As root, run: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi

echo "Installing: ${missing[*]}"
apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300)
# A list that cannot be refreshed may still do: only a failed installation is an error.
"${apt[@]}" update > /dev/null || echo "install-packages.sh: apt-get update failed" >&2
if ! "${apt[@]}" install --no-install-recommends "${missing[@]}"; then
  echo "install-packages.sh: could not install: ${missing[*]}" >&2
  echo "Tandem is built on Debian 12 (bookworm); its packages are named above." >&2
  exit 1
fi
