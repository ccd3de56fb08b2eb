# What a developer runs; `make` alone lists it. Continuous integration runs `make test`, through .ci/run.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
# The targets of one run are in order of cost, and each uses all cores.
.NOTPARALLEL:

# What .ci/install-tools provides comes first, so that its versions count.
export PATH := $(CURDIR)/target/tools/bin:$(PATH)

.PHONY: help
help: ## List the targets
	@sed -En 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/p' Makefile | expand -t 20

.PHONY: run
run: ## Build and start `taskey`, the whole product in one process; ARGS="--help" lists its settings
	cargo run --release --locked -- $(ARGS)

.PHONY: check
check: check-quickly check-compiled ## Judge the code without running it, in order of cost

.PHONY: check-quickly
check-quickly:
	@.ci/stage fmt cargo fmt --all --check
	@.ci/stage leftovers .ci/leftovers
	@.ci/stage 'plain words' .ci/plain-words
	@.ci/stage 'import circles' .ci/import-circles
	@.ci/stage 'one feature set' .ci/one-feature-set
	@.ci/stage 'buf lint' buf lint proto
	@.ci/stage deny cargo deny --workspace --locked check bans licenses sources

.PHONY: check-compiled
check-compiled:
	@.ci/stage clippy cargo clippy --locked --workspace --all-targets -- -D warnings
	@RUSTDOCFLAGS='-D warnings' .ci/stage doc cargo doc --locked --workspace --no-deps

# With CI=true a test that cannot run fails instead of being skipped. No stage compiles what an earlier one has compiled:
# `api` calls the program that the tests use, beside clippy and doc, which measure no time either.
.PHONY: test
test: export CI := true
test: all-tools check-quickly ## Everything: install the tools, check, and test on SQLite and on a PostgreSQL of its own
	@.ci/stage 'buf breaking' .ci/buf-breaking
	@.ci/stage build cargo nextest run --locked --workspace --no-run
	@.ci/side-by-side '.ci/stage api .ci/test-api' '$(MAKE) check-compiled'
	@.ci/stage 'doc tests' cargo test --locked --workspace --doc --quiet
	@.ci/stage test .ci/with-postgres cargo nextest run --locked --workspace --run-ignored all -E 'not ($(FAULTS))'
	@$(RUN_FAULTS)

# They have many rounds, and report what they measured.
FAULTS := package(taskey) & test(/^faults::/)
RUN_FAULTS = TASKEY_TEST_ROUNDS=500 .ci/stage faults .ci/with-postgres \
	cargo nextest run --locked --workspace --run-ignored all --success-output immediate -E '$(FAULTS)'

.PHONY: test-faults
test-faults: export CI := true
test-faults: tools ## The fault tests alone, which report what they measured
	@.ci/stage build cargo nextest run --locked --workspace --no-run
	@$(RUN_FAULTS)

.PHONY: test-api
test-api: ## Call a running `taskey` as /openapi.json says, in all ways, for a minute
	@.ci/stage 'tools for the API' .ci/install-tools api
	@.ci/stage build cargo build --locked --workspace --bins
	@.ci/stage api .ci/test-api

.PHONY: bench-gateway
bench-gateway: ## Measure what the gateway adds to a call; ARGS="--help" lists the settings
	@.ci/stage build cargo build --release --locked --package bench --package auth-service --package task-service --package gateway
	@.ci/stage bench target/release/bench gateway $(ARGS)

.PHONY: openapi
openapi: ## Write gateway/openapi.json anew, after a change of the contract
	TASKEY_TEST_RENEW_OPENAPI=yes cargo test --locked --package gateway --test api -- the_committed_copy

# `make test` tries the corpora of the targets, as unit tests of their crates.
.PHONY: fuzz
fuzz: ## Search for input that breaks a parser, FUZZ_SECONDS (60) for each fuzz target
	@.ci/stage tools .ci/install-tools fuzz
	@.ci/stage fuzz .ci/fuzz

# The server of the databases stays on the first core, beside the services; the load moves to the other by itself.
.PHONY: bench
bench: export TASKEY_TEST_FSYNC := on
bench: ## Load task-service on SQLite and PostgreSQL, and say what it bears; ARGS="--help" lists the settings
	@.ci/stage build cargo build --release --locked --package bench --package auth-service --package task-service
	@.ci/stage bench taskset -c 0 .ci/with-postgres target/release/bench run $(ARGS)

.PHONY: bench-large
bench-large: ## Ask for the lists of a user with 10 000 tasks among a million; ARGS="--help" lists the settings
	@.ci/stage build cargo build --release --locked --package bench --package auth-service --package task-service
	@.ci/stage bench .ci/with-postgres target/release/bench large $(ARGS)

.PHONY: all-tools
all-tools:
	@.ci/stage tools .ci/install-tools all

.PHONY: tools
tools: ## Install what the checks and tests need and this machine lacks
	@.ci/stage tools .ci/install-tools

.PHONY: advisories
advisories: ## Look for known vulnerabilities in the dependencies; fetches the RustSec database
	@.ci/stage advisories cargo deny --workspace --locked check advisories
