# Everything a clone of Longpole needs: `make run` and `make test` install what is missing and do their job.

SHELL := /bin/bash
CARGO ?= cargo
CARGO_TARGET_DIR ?= $(CURDIR)/target
export CARGO_TARGET_DIR
# What `longpole_build_info` says of itself.
LONGPOLE_COMMIT ?= $(shell git describe --always --dirty --abbrev=12 2>/dev/null)
export LONGPOLE_COMMIT

CLIENTS := $(CARGO_TARGET_DIR)/clients
RELEASE := $(CARGO_TARGET_DIR)/release
BENCH_ARGS ?=
SOAK_ARGS ?=
RUN_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help deps clients build run test bench soak fuzz fmt lint check-pure clean

help: ## say what there is
	@echo "Longpole: distributed tracing collector and latency analyzer"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "  CARGO_TARGET_DIR=DIR chooses where the build goes (now $(CARGO_TARGET_DIR))."
	@echo "  The first build compiles RocksDB, which takes 10 to 20 minutes on two cores."

deps: ## check for the compilers that the build needs, and install what is missing
	@scripts/deps.sh

clients: ## make what the tests run as clients: OpenTelemetry SDKs in Python, Node, Java and Go, and the Collector
	@scripts/clients.sh "$(CLIENTS)"

build: deps ## build the release binary
	$(CARGO) build --release --workspace

run: build ## build, then run the demo: a shop that sends spans, and what Longpole says about it
	"$(RELEASE)/longpole" demo $(RUN_ARGS)

# A client that cannot be made here does not stop the rest: its test says why it did not run. Where all could be made
# none may be skipped.
test: build ## build and run every test, also against the OpenTelemetry SDKs and the Collector
	@rm -f "$(CLIENTS)/complete"
	@scripts/clients.sh "$(CLIENTS)" || true
	if [ -f "$(CLIENTS)/complete" ]; then export LONGPOLE_TEST_CLIENTS_REQUIRED=1; fi; \
	LONGPOLE_TEST_CLIENTS="$(CLIENTS)" $(CARGO) test --release --workspace --no-fail-fast

bench: build ## throughput, CPU, memory, disk and query latency, beside two null servers (BENCH_ARGS="--runs 3 --seconds 600")
	"$(RELEASE)/bench" $(BENCH_ARGS)

soak: build ## ten minutes at 80 % of the limit with questions beside it: does anything grow? (SOAK_ARGS="--limit 400000")
	"$(RELEASE)/soak" $(SOAK_ARGS)

fuzz: deps ## fuzz a parser, guided by coverage (TARGET=walker FUZZ_SECONDS=120); grows fuzz/corpus
	scripts/fuzz.sh "$(TARGET)" $(or $(FUZZ_SECONDS),120)

fmt: ## format the code
	$(CARGO) fmt --all

lint: deps ## rustfmt --check, clippy and the purity check
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --release --workspace --all-targets -- -D warnings
	$(CARGO) run --quiet -p xtask -- check-pure

check-pure: ## check that the pure crates are pure
	$(CARGO) run --quiet -p xtask -- check-pure

clean: ## remove what was built
	$(CARGO) clean
