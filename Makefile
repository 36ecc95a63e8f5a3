# A thin front to CMake: every target does its own set-up on a fresh Debian 12 machine.
JOBS ?= $(shell nproc)
TEST_JOBS ?= 2
PREFIX ?= /usr/local
FUZZ_SECONDS ?= 60

# CMake takes its compiler launcher from here when it first configures a build.
CCACHE := $(shell command -v ccache)
ifneq ($(CCACHE),)
export CMAKE_CXX_COMPILER_LAUNCHER ?= $(CCACHE)
endif

.PHONY: help build test demo bench format check check-format check-tidy check-layers \
        soak clients sanitize sanitize-asan sanitize-tsan fuzz install clean packages

help:
	@echo 'make build      the program, at build/tandem'
	@echo 'make test       all tests and examples; SLOW=1 adds the long ones'
	@echo 'make demo       trains, generates, compares, and writes a report: ten minutes at most'
	@echo 'make bench      speed against what this machine can do'
	@echo 'make check      formatting, clang-tidy, layering'
	@echo 'make format     formats all sources in place'
	@echo 'make soak       kills processes at random moments; SOAK_TIMES=50'
	@echo 'make clients    the openai package and headless Chromium against a server'
	@echo 'make sanitize   the tests under address+undefined-behaviour and thread sanitizers'
	@echo 'make fuzz       each fuzz target for FUZZ_SECONDS=60'
	@echo 'make install    program, libraries, headers, CMake package, to PREFIX=/usr/local'
	@echo 'make clean      removes the build folders'

packages:
	@scripts/install-packages.sh build

# Ninja configures again by itself when a CMake file changes.
build%/build.ninja: CMakePresets.json | packages
	cmake --preset $*
	@touch $@
build/build.ninja: CMakePresets.json | packages
	cmake --preset release
	@touch $@

build: build/build.ninja
	cmake --build build --target tandem -j $(JOBS)

test: build/build.ninja
	cmake --build build -j $(JOBS)
	$(if $(SLOW),GTEST_ALSO_RUN_DISABLED_TESTS=1) ctest --test-dir build --output-on-failure -j $(TEST_JOBS)

# Processes die in the middle of generation and training.
soak: build/build.ninja
	cmake --build build -j $(JOBS) --target test_world
	build/tests/test_world --gtest_filter='Soak*' --gtest_also_run_disabled_tests

# People's clients against a server: the openai package and a browser.
clients: build
	@scripts/install-packages.sh clients
	scripts/check-clients.sh

demo: build
	@scripts/install-packages.sh demo
	scripts/demo.sh

bench: build/build.ninja
	@scripts/install-packages.sh bench
	cmake --preset release -DTANDEM_BUILD_BENCHMARKS=ON
	cmake --build build -j $(JOBS)
	scripts/bench.sh

format:
	@scripts/install-packages.sh check
	@scripts/format.sh

check: check-format check-layers check-tidy

check-format:
	@scripts/install-packages.sh check
	scripts/format.sh --check

check-tidy: build/build.ninja
	@scripts/install-packages.sh check
	scripts/tidy.sh build $(JOBS)

check-layers: build/build.ninja
	scripts/check-layers.sh build

sanitize: sanitize-asan sanitize-tsan

sanitize-asan: packages
	scripts/sanitize.sh asan $(JOBS) $(TEST_JOBS)

# One after the other, also under make -j.
sanitize-tsan: packages | sanitize-asan
	scripts/sanitize.sh tsan $(JOBS) $(TEST_JOBS)

fuzz: packages
	@scripts/install-packages.sh fuzz
	scripts/fuzz.sh $(JOBS) $(FUZZ_SECONDS)

install: build
	cmake --install build --prefix $(PREFIX)

clean:
	rm -rf build build-asan build-tsan build-fuzz
