# The commands for developers; `make` lists them. Continuous integration runs `make test` through .ci/run.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
# Prerequisites run one after the other, the fastest first, because each uses all cores.
.NOTPARALLEL:

# The tools of .ci/install-tools take precedence, so that their versions are used.
export PATH := $(CURDIR)/target/tools/bin:$(PATH)

.PHONY: help
help: ## List the targets
	@sed -En 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/p' Makefile | expand -t 20

.PHONY: run
run: ## Build and start `taskey`, all services in one process; ARGS="--help" lists its settings
	cargo run --release --locked -- $(ARGS)

.PHONY: check
check: check-quickly check-compiled ## Run the static checks, the fastest first

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

# With CI=true, a test that cannot run fails instead of being skipped. Stages reuse what earlier ones have compiled:
# `api` starts the programs that were built for the tests. It runs beside clippy and doc, because none of them measures
# time. Many tests wait for the disk or for each other, so more of them run at the same time than there are cores.
.PHONY: test
test: export CI := true
test: all-tools check-quickly ## Install the tools, and run all checks and tests, on SQLite and PostgreSQL
	@.ci/stage 'buf breaking' .ci/buf-breaking
	@.ci/stage build cargo nextest run --locked --workspace --no-run
	@.ci/side-by-side '.ci/stage api .ci/test-api' '$(MAKE) check-compiled'
	@.ci/stage 'doc tests' cargo test --locked --workspace --doc --quiet
	@.ci/stage test .ci/with-postgres cargo nextest run --locked --workspace --run-ignored all \
		--test-threads $$(($$(nproc) * 3 / 2)) -E 'not ($(FAULTS) or $(DEPLOYMENT) or $(UPGRADE) or $(CLIENTS) or $(WEBHOOKS))'
	@TASKEY_TEST_ROUNDS=100 $(RUN_FAULTS) -E '$(FAULTS) - test(/^faults::soak::/)'
	@.ci/test-clients

# The fault tests run for many rounds, and report their measurements. `make test` runs fewer rounds, and no soak.
FAULTS := package(taskey) & test(/^faults::/)
RUN_FAULTS = .ci/stage faults .ci/with-postgres \
	cargo nextest run --locked --workspace --run-ignored all --success-output immediate

.PHONY: test-faults
test-faults: export CI := true
test-faults: tools ## Run only the fault tests, and report their measurements
	@.ci/stage build cargo nextest run --locked --workspace --no-run
	@TASKEY_TEST_ROUNDS=500 $(RUN_FAULTS) -E '$(FAULTS)'

.PHONY: soak
soak: export CI := true
soak: export SOAK_SECONDS ?= 600
soak: tools ## Serve honest callers during attacks and faults, with the release programs, for SOAK_SECONDS (default: 600)
	@.ci/stage build cargo build --release --locked --workspace --bins
	@.ci/stage soak .ci/with-postgres cargo nextest run --profile soak --release --locked --package taskey --no-capture \
		-E 'test(/^faults::soak::/)'

.PHONY: test-api
test-api: ## Start `taskey` and test its HTTP API against /openapi.json, for about a minute
	@.ci/stage 'tools for the API' .ci/install-tools api
	@.ci/stage build cargo build --locked --workspace --bins
	@.ci/stage api .ci/test-api

# A rolling upgrade from the programs of the previous release, which are built in target/previous. On two busy cores, it took
# 10 minutes the first time, when only the dependencies were compiled, and half a minute later.
UPGRADE := package(taskey) & test(/^upgrade::/)

.PHONY: test-upgrade
test-upgrade: export CI := true
test-upgrade: tools ## Run the programs of the previous release beside the new ones, under load
	@.ci/stage build cargo nextest run --locked --workspace --no-run
	@.ci/stage 'previous release' .ci/build-previous
	@TASKEY_TEST_PREVIOUS=$(CURDIR)/target/previous/target/debug .ci/stage upgrade .ci/with-postgres \
		cargo nextest run --locked --package taskey --success-output immediate -E '$(UPGRADE)'

# Three replicas of task-service, which are killed at random while 10,000 messages of webhooks are pending.
WEBHOOKS := package(taskey) & test(/^webhooks::/)

.PHONY: test-webhooks
test-webhooks: export CI := true
test-webhooks: export TASKEY_TEST_DELIVERIES ?= 10000
test-webhooks: tools ## Kill replicas while messages of webhooks are pending, until all have arrived
	@.ci/stage build cargo nextest run --locked --workspace --no-run
	@.ci/stage webhooks .ci/with-postgres cargo nextest run --profile soak --locked --package taskey \
		--success-output immediate -E '$(WEBHOOKS)'

# The tests of `deploy/` with the programs that its configurations are for: Envoy, nginx, HAProxy, Caddy, Patroni, buildah,
# Helm and systemd. On two cores, they take 6 minutes with programs that are compiled already. The images contain release
# programs, whose compilation takes 25 minutes of CPU time; the other stages use those of the tests. The first run also
# compiles Helm, for 3 minutes.
DEPLOYMENT := package(taskey) & test(/^deployment::/)

.PHONY: test-deploy
test-deploy: export CI := true
test-deploy: tools ## Test images, charts, units, proxies and failovers with the real programs, for about 6 minutes
	@.ci/stage 'tools for deploy' .ci/install-tools deploy
	@.ci/stage build cargo nextest run --locked --workspace --no-run
	@.ci/stage scripts shellcheck deploy/tests/* deploy/container/build deploy/container/programs deploy/container/sbom \
		deploy/compose/init
	@.ci/stage helm deploy/tests/helm
	@.ci/stage systemd deploy/tests/systemd
	@.ci/stage compose deploy/tests/compose
	@.ci/stage 'envoy jwt_authn' deploy/tests/envoy-jwt
	@.ci/stage deployment .ci/with-postgres cargo nextest run --locked --package taskey --test-threads 4 -E '$(DEPLOYMENT)' \
		--success-output immediate
	@.ci/stage image deploy/tests/image

# The clients in other languages, each against the real server behind a proxy that simulates network failures. With
# LANGUAGES="go python", only these are tested.
CLIENTS := package(taskey) & test(/^clients::/)

.PHONY: clients
clients: ## Generate the code of all clients, and build them
	@.ci/stage 'tools for clients' .ci/install-tools clients
	@for client in clients/*/build; do .ci/stage "$$client" "$$client"; done

.PHONY: test-clients
test-clients: export CI := true
test-clients: ## Test the clients of all languages, for about 10 minutes; LANGUAGES="go python" selects some
	@.ci/stage 'tools for clients' .ci/install-tools clients
	@.ci/stage build cargo build --locked --workspace --bins
	@.ci/stage build cargo nextest run --locked --package taskey --no-run
	@.ci/test-clients $(LANGUAGES)

# The engine of recurrence rules against an independent algorithm, and that against three other implementations. It takes 20
# minutes of CPU time.
.PHONY: test-recurrence
test-recurrence: tools ## Compare RULES (default: 100000) random recurrence rules with dateutil, rrule-go and libical, for half an hour
	@.ci/install-tools recurrence
	@.ci/stage 'other implementations' task-service/tests/recurrence/run $(RULES)
	@TASKEY_TEST_RECURRENCE_VECTORS=$(CURDIR)/target/recurrence/vectors.tsv .ci/stage engine \
		cargo nextest run --profile soak --locked --package task-service --lib -E 'test(recurrence::tests::vectors)'

# Imports of 100 MB. They take 2 minutes of CPU time.
.PHONY: test-import
test-import: tools ## Import files of 100 MB, and measure the memory
	@TASKEY_TEST_LARGE_FILES=1 .ci/stage import .ci/with-postgres \
		cargo nextest run --locked --package task-service -E 'test(import::large::)'

.PHONY: bench-gateway
bench-gateway: ## Measure the overhead of the gateway per call; ARGS="--help" lists the settings
	@.ci/stage build cargo build --release --locked --package bench --package auth-service --package task-service --package gateway
	@.ci/stage bench target/release/bench gateway $(ARGS)

.PHONY: openapi
openapi: ## Regenerate gateway/openapi.json and proto/service_config.json after a change of the contract
	TASKEY_TEST_RENEW_OPENAPI=yes cargo test --locked --package gateway --test api -- the_committed_copy

# `make test` runs the fuzz targets only on their corpora, as unit tests of their crates.
.PHONY: fuzz
fuzz: ## Fuzz the parsers, each fuzz target for FUZZ_SECONDS (default: 60)
	@.ci/stage tools .ci/install-tools fuzz
	@.ci/stage fuzz .ci/fuzz

# The PostgreSQL server and the services run on the first core; the load generator pins itself to the last one.
.PHONY: bench
bench: export TASKEY_TEST_FSYNC := on
bench: ## Measure the capacity of taskey on SQLite and PostgreSQL; ARGS="--help" lists the settings
	@.ci/stage build cargo build --release --locked --package bench --package taskey
	@.ci/stage bench taskset -c 0 .ci/with-postgres target/release/bench run $(ARGS)

.PHONY: bench-large
bench-large: ## Measure listing for a user with 10,000 of a million tasks; ARGS="--help" lists the settings
	@.ci/stage build cargo build --release --locked --package bench --package taskey
	@.ci/stage bench .ci/with-postgres target/release/bench large $(ARGS)

.PHONY: bench-scale
bench-scale: ## Measure the cost of calls against the size of the data; ARGS="--help" lists the settings
	@.ci/stage build cargo build --release --locked --package bench --package taskey --package auth-service --package task-service
	@.ci/stage bench taskset -c 0 .ci/with-postgres target/release/bench scale $(ARGS)

.PHONY: all-tools
all-tools:
	@.ci/stage tools .ci/install-tools all

.PHONY: tools
tools: ## Install missing tools for the checks and tests
	@.ci/stage tools .ci/install-tools

.PHONY: advisories
advisories: ## Check the dependencies for known vulnerabilities; downloads the RustSec database
	@.ci/stage advisories cargo deny --workspace --locked check advisories
