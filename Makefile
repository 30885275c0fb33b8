# What there is to do with a checkout. Every target brings what it needs (tools/setup.sh).
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test test-engine test-cluster bench fuzz fmt lint build-all install

ENGINE := -p ruvector_dag_healing_engine
CLUSTER := cargo test $(ENGINE) --features server-tests --test cluster
# What the other servers run of the cluster tests: every theme that depends on their version.
SUBSET := smoke:: sql:: agreement:: matrix:: check:: lists:: in_place:: healing::race rebuild::keeps rebuild::verdict

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: ## a server of its own, real embeddings, a damaged index that heals
	@tools/setup.sh
	@tools/install.sh 18
	cargo run --release $(ENGINE) --features server-tests --example demo

test: test-engine test-cluster ## everything: the engine, then real servers

test-engine: ## the engine alone, no server
	@tools/setup.sh
	cargo test $(ENGINE)

test-cluster: ## real servers: PostgreSQL 18 in full, 16 and 16.2 (pgvector 0.6) in part
	@tools/setup.sh 18 16 16.2
	@for prefix in 18 16 16.2; do tools/install.sh "$$prefix"; done
	$(CLUSTER)
	RUVECTOR_TEST_PG=target/pg/16 $(CLUSTER) -- $(SUBSET)
	RUVECTOR_TEST_PG=target/pg/16.2 $(CLUSTER) -- $(SUBSET)

bench: ## what reading and measuring cost, against the least they could; what mending costs, against rebuilding
	@tools/setup.sh
	@tools/install.sh 18
	cargo bench $(ENGINE) --bench exact
	cargo bench $(ENGINE) --features server-tests --bench recall
	cargo bench $(ENGINE) --features server-tests --bench reading
	cargo bench $(ENGINE) --features server-tests --bench healing
	cargo bench $(ENGINE) --features server-tests --bench decay
	cargo bench $(ENGINE) --features server-tests --bench fire
	cargo bench $(ENGINE) --features server-tests --bench sink
	cargo bench $(ENGINE) --features server-tests --bench lists

FUZZ_SECONDS ?= 3600
fuzz: ## any bytes as index files, for FUZZ_SECONDS (3600) in all
	@tools/setup.sh
	@PATH="$$PWD/target/tools/bin:$$PATH"; export PATH RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="$$PWD/target/fuzz"; \
	[[ -x target/tools/bin/cargo-fuzz ]] || cargo install --quiet --locked --root target/tools cargo-fuzz; \
	for kind in hnsw ivfflat; do \
		mkdir -p "target/fuzz/corpus/$$kind" "target/fuzz/seeds/$$kind"; \
		cp tests/data/pages/"$$kind"-*.bin "target/fuzz/seeds/$$kind/"; \
		cargo fuzz run "$$kind" "target/fuzz/corpus/$$kind" "target/fuzz/seeds/$$kind" -- \
			-max_total_time=$$(($(FUZZ_SECONDS) / 2)) -max_len=32768 -len_control=0 -timeout=10 -rss_limit_mb=1024; \
	done

fmt: ## formats the sources
	cargo fmt --all

lint: ## the format, and clippy on both packages; a warning is an error
	@tools/setup.sh
	cargo fmt --all --check
	cargo clippy $(ENGINE) --all-targets --all-features -- -D warnings
	tools/install.sh 18 clippy

build-all: ## the extension for every PostgreSQL at hand: 15 (if there is one), 16, 18
	@tools/setup.sh 15 16 18
	@for prefix in 15 16 18; do tools/install.sh "$$prefix"; done

install: ## into your own server: make install PG_CONFIG=/path/to/pg_config
	@[[ -n "$(PG_CONFIG)" ]] || { echo "make install PG_CONFIG=/path/to/pg_config" >&2; exit 2; }
	@tools/setup.sh
	@tools/install.sh "$(PG_CONFIG)"
