# Spotter: the commands people type. CI calls the same ones.
#
#   make demo    sets everything up and runs the daemon on a bundled clip (DEMO_SECONDS=60 ends it)
#   make test    sets everything up, lints, runs every test
#   make chaos   outages and kills for longer, about 8 minutes
#   make bench   measures this machine
#   make demo-bundle   trains the demo's model again, about 45 minutes

.PHONY: help setup build demo demo-bundle test lint deny unit reconnect chaos bench clean
.DEFAULT_GOAL := help

CARGO ?= cargo
# One profile and one selection of packages everywhere, so that everything is compiled once.
BUILD := --release --workspace --locked

help:
	@sed -n 's/^#   make/make/p' Makefile

setup:
	@scripts/setup

build: setup
	$(CARGO) build $(BUILD) --bins

demo: build
	@scripts/demo

demo-bundle: build
	@scripts/demo-bundle

test: setup lint unit

lint: setup
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(BUILD) --all-targets -- -D warnings

# The link boundaries and licences of deny.toml; needs cargo-deny. `make test` checks the boundaries
# and licences by a test of its own.
deny:
	$(CARGO) deny --workspace check bans licenses sources

unit: setup
	$(CARGO) test $(BUILD)

# The long form of the reconnection test: 20 outages of 1 to 20 s, about 6 minutes.
reconnect: build
	SPOTTER_RECONNECT_FULL=1 $(CARGO) test $(BUILD) --test reconnect -- --nocapture

# The long forms of the tests of delivery: the broker away for 60 s, 100 kills at random moments.
# SPOTTER_SEED=N repeats a run of the kills.
chaos: build
	SPOTTER_CHAOS=1 $(CARGO) test $(BUILD) --test outage --test kill -- --nocapture

bench: build
	rm -rf target/bench/full
	scripts/bench-peers
	target/release/spotterd bench embed
	target/release/spotterd bench embed --precision int8
	target/release/spotterd bench match
	target/release/spotterd bench retro
	target/release/spotterd bench random-bundle --precisions f32,int8 --out target/bench/full
	target/release/spotterd replay --bundle target/bench/full --video tests/data/scenes/street-a.mp4
	SPOTTER_EIGHT=$(CURDIR)/target/bench/full SPOTTER_MORE="$$(printf '[inference]\nprecision = "int8"\n[detector]\nrate_hz = 3\n')" \
		$(CARGO) test $(BUILD) --test streams eight -- --ignored --nocapture
	target/release/spotter-trainer bench --size small --steps 3 --threads 1

clean:
	$(CARGO) clean
