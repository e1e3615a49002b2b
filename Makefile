# Commands for people and for CI; `make` alone lists them. What they need beyond Rust and Go is installed
# from Debian (e2e/cluster/install.sh) or built once into $(CACHE), which may be deleted at any time.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

CACHE := $(or $(PUSHCLUSTER_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/pushcluster)

# The cluster: dev for `up` and `down`, test for `e2e`, unless NAME says otherwise. CONTEXT=name: one that kubectl knows.
NAME ?=
CONTEXT ?=

# A fresh clone, as CI has it, is warm when what cargo builds lies outside it, keyed by compiler.
ifdef CI
export CARGO_TARGET_DIR ?= $(CACHE)/target-$(shell rustc --version | cut -d' ' -f2)
endif

CARGO_DENY_VERSION := 0.20.2
CARGO_DENY := $(CACHE)/cargo-deny-$(CARGO_DENY_VERSION)
CARGO_CYCLONEDX_VERSION := 0.5.9
CARGO_CYCLONEDX := $(CACHE)/cargo-cyclonedx-$(CARGO_CYCLONEDX_VERSION)
HELM = $$(. e2e/cluster/lib.sh && echo "$$BIN/helm")

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z][a-z0-9-]*\):.*## \(.*\)$$/make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18

.PHONY: up
up: ## a Kubernetes on this machine (or CONTEXT=name), the operator, a PushCluster, a message through it
	@CLUSTER=$(or $(NAME),dev) CONTEXT=$(CONTEXT) e2e/cluster/make-up.sh

.PHONY: down
down: ## remove everything that `make up` made (CONTEXT=name: from that cluster), and nothing else
	@CLUSTER=$(or $(NAME),dev) CONTEXT=$(CONTEXT) e2e/cluster/make-down.sh

.PHONY: test
test: tools lint unit autobahn openapi chart e2e ## everything that a change must pass; what CI runs
	@echo "make test: lints, unit and process tests, WebSocket conformance, chart tests and e2e tests passed"

.PHONY: tools
tools: ## install from Debian, and build into the cache, what the tests need
	@e2e/cluster/install.sh
	@e2e/cluster/build.sh --is-built || echo "building Kubernetes, CoreDNS and Helm, once: 5 to 30 minutes"
	@e2e/cluster/build.sh
	@PUSHCLUSTER_CACHE="$(CACHE)" e2e/tests/checker/toxiproxy/build.sh >/dev/null
	@PUSHCLUSTER_CACHE="$(CACHE)" bench/peers/socketio/install.sh >/dev/null

# Clippy's --all-targets leaves out what `cargo test` leaves out, so these two are named.
.PHONY: lint
lint: $(CARGO_DENY)/bin/cargo-deny ## format, clippy, shell scripts, licences and bans of dependencies
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- --deny warnings
	cargo clippy -p e2e --test e2e --test chart --locked -- --deny warnings
	git ls-files -z '*.sh' .ci/run | xargs -0 shellcheck --external-sources --source-path=SCRIPTDIR
	$(CARGO_DENY)/bin/cargo-deny --log-level error check bans licenses sources

# Without optimisation: it runs for a second, and compiles in a third of the time.
$(CARGO_DENY)/bin/cargo-deny:
	cargo install cargo-deny --version $(CARGO_DENY_VERSION) --locked --debug --root $(CARGO_DENY)

.PHONY: unit
unit: ## tests that need no cluster: pure parts, the gateway on real sockets and a real Redis, repository rules
	cargo test --workspace --locked --no-fail-fast

.PHONY: autobahn
autobahn: ## the gateway against the Autobahn test suite, WebSocket by the book (CASES='["5.*"]')
	@PUSHCLUSTER_CACHE="$(CACHE)" CASES='$(or $(CASES),["*"])' gateway/tests/autobahn/run.sh

.PHONY: openapi
openapi: ## the HTTP API's OpenAPI document against a running gateway, with schemathesis (SEED=n EXAMPLES=n)
	@PUSHCLUSTER_CACHE="$(CACHE)" SEED=$(SEED) EXAMPLES=$(EXAMPLES) gateway/tests/openapi/run.sh

# It finds what nobody thought of, so it has no end, and is no part of `test`; what it found before is (gateway/fuzz).
.PHONY: fuzz
fuzz: ## strange bytes into every parser until one breaks (T=frames: one; FUZZ_SECONDS=60 for each)
	@PUSHCLUSTER_CACHE="$(CACHE)" FUZZ_SECONDS="$(FUZZ_SECONDS)" gateway/fuzz/run.sh $(T)

.PHONY: checker
checker: ## who hears what while gateways and Redis are killed, frozen and cut off (ROUNDS=n SEED=n FAULT=part of a name)
	cargo build --locked -p gateway
	CHECKER_ROUNDS=$(or $(ROUNDS),20) $(if $(SEED),CHECKER_SEED=$(SEED)) CHECKER_FAULT=$(FAULT) \
	  cargo test --locked -p e2e --test checker -- --nocapture

.PHONY: chart
chart: ## the Helm chart, rendered and checked
	HELM="$(HELM)" cargo test --locked -p e2e --test chart

.PHONY: e2e
e2e: ## the tests on a real cluster of two nodes, started for them and removed after (TEST=part of a name)
	@CLUSTER=$(or $(NAME),test) TEST=$(TEST) e2e/run.sh

# All of them take half an hour; PEERS: a folder with uNetworking's uWebSockets and uSockets, to be compared too.
.PHONY: bench
bench: ## measure against floors and peers (B=fanout: one; B=list; PEERS=folder with uWebSockets and uSockets)
	PUSHCLUSTER_CACHE="$(CACHE)" cargo run --release --locked -p bench -- \
	  $(if $(filter list,$(B)),,$(or $(B),all)) $(if $(PEERS),--peers "$(abspath $(PEERS))")

# Twenty minutes; what it needs, and what it says: docs/performance.md.
.PHONY: ramp
ramp: ## thousands of clients on a real cluster, and all that moves them (CLIENTS=10000, RAMP='--rate 80 --budget 100')
	@CLUSTER=$(or $(NAME),ramp) bench/ramp.sh $(or $(CLIENTS),10000) $(RAMP)

.PHONY: many
many: ## measure one operator with many PushClusters, on an API server without nodes (COUNT=500)
	@e2e/cluster/many.sh $(or $(COUNT),500)

.PHONY: generate
generate: ## write the files that come from others (the CRD in the chart, the chart's README)
	cargo run -q -p operator -- crds > charts/pushcluster-operator/templates/crds/pushclusters.yaml
	UPDATE_DOCS=1 cargo test -q --locked -p e2e --test chart readme

.PHONY: binaries
binaries: ## the gateway and the operator as static programs
	e2e/cluster/build-binaries.sh

# Where `make images` names its images, and what builds them: docker, podman or buildah.
IMAGES ?= pushcluster
TAG ?= dev
BUILDER ?= docker

.PHONY: images
images: binaries sbom ## container images of the gateway and the operator (IMAGES=registry/path TAG=… BUILDER=docker)
	@context=$$(mktemp -d); trap 'rm -rf "$$context"' EXIT; \
	for program in gateway operator; do \
	  e2e/cluster/build-binaries.sh --copy "$$program" "$$context/$$program"; \
	  $(BUILDER) build -t "$(IMAGES)/$$program:$(TAG)" -f "$$program/Dockerfile" \
	    --build-arg VERSION="$(TAG)" --build-arg REVISION="$$(git describe --always --dirty --abbrev=40)" "$$context"; \
	done

.PHONY: sbom
sbom: $(CARGO_CYCLONEDX)/bin/cargo-cyclonedx ## what each image is made of, as CycloneDX: target/sbom
	@CARGO_CYCLONEDX="$(CARGO_CYCLONEDX)/bin/cargo-cyclonedx" e2e/cluster/sbom.sh

$(CARGO_CYCLONEDX)/bin/cargo-cyclonedx:
	cargo install cargo-cyclonedx --version $(CARGO_CYCLONEDX_VERSION) --locked --debug --root $(CARGO_CYCLONEDX)
