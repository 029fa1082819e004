# `make serve` and `make test` do all the set-up that a machine with Python and Node needs.

PYTHON ?= python3
RUST_PEER := 0.1.5
CADDY_PEER := 1e64846eb5190ae024e7cffdd76341f34812580f
VENV := .venv
BIN := $(VENV)/bin
STAMPS := .stamps

.PHONY: serve test unit lint format conformance interop browser crash damage subscriptions fuzz extremes hostile planted bench compare profile lock clean

serve: $(STAMPS)/run
	$(BIN)/durable-streams-server serve --host 127.0.0.1 --port 4437

test: lint $(STAMPS)/node $(STAMPS)/debian
	$(BIN)/python -m pytest

unit: $(STAMPS)/dev
	$(BIN)/python -m pytest --ignore=tests/conformance --ignore=tests/interop --ignore=tests/browser --ignore=tests/proxies

lint: $(STAMPS)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMPS)/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

conformance: $(STAMPS)/dev $(STAMPS)/node
	$(BIN)/python -m pytest tests/conformance

# Runs official clients and packages that are built on streams: Yjs, StreamDB, the transports of the AI SDK and TanStack AI.
interop: $(STAMPS)/dev $(STAMPS)/node
	$(BIN)/python -m pytest tests/interop

# Runs the server in front of a real browser and behind real proxies.
browser: $(STAMPS)/dev $(STAMPS)/node $(STAMPS)/debian
	$(BIN)/python -m pytest tests/browser tests/proxies

# Hunts for crashes that lose, double or resurrect something: make crash SEEDS=10000 SEED0=0
crash: $(STAMPS)/dev
	$(BIN)/python -m tests.crash.hunt $(or $(SEED0),0) $(or $(SEEDS),2000)

# Damages files of a data directory at random, and sees that nothing wrong is served: make damage SEEDS=10000 SEED0=0
damage: $(STAMPS)/dev
	$(BIN)/python -m tests.damage.sweep $(or $(SEED0),0) $(or $(SEEDS),10000)

# Hunts for lost, doubled and late deliveries of subscriptions, with faults of every kind: make subscriptions SEEDS=5000 SEED0=0
subscriptions: $(STAMPS)/dev
	$(BIN)/python -m tests.delivery.hunt $(or $(SEED0),0) $(or $(SEEDS),500)

# Hunts for conversations that are answered otherwise than their requests alone: make fuzz SEEDS=100000 SEED0=0
fuzz: $(STAMPS)/dev
	$(BIN)/python -m tests.http.conversations $(or $(SEED0),0) $(or $(SEEDS),10000)

# Sends every extreme value in every place of a request, and looks at all after a kill and a restart: make extremes SHARE=1
extremes: $(STAMPS)/dev
	$(BIN)/python -m tests.extremes.sweep $(or $(SHARE),1)

# Lets every kind of hostile client loose on one server, whose memory is limited: make hostile SECONDS=60 [KINDS="sip reset"]
hostile: $(STAMPS)/dev
	$(BIN)/python -m tests.hostile $(or $(SECONDS),60) $(KINDS)

# Plants each storage bug of docs/traps.md in a copy of the source, and says what finds it.
planted: $(STAMPS)/dev
	$(BIN)/python -m tests.crash.planted

# Measures this server beside others, prints a table, and renews benchmarks/results.json and docs/performance.md. Settings:
# PARTS="append sse" (the default is all), ROUNDS=3, SECONDS=4 of each measurement.
bench: $(STAMPS)/dev $(STAMPS)/bench $(STAMPS)/wrk $(STAMPS)/rust-$(RUST_PEER) $(STAMPS)/caddy-$(CADDY_PEER)
	ROUNDS=$(ROUNDS) SECONDS=$(SECONDS) $(BIN)/python -m benchmarks $(PARTS)

# Measures this source beside another checkout's in one run, and prints ratios: make compare BASE=../other [PARTS="append sse-one"]
compare: $(STAMPS)/dev $(STAMPS)/wrk
	ROUNDS=$(ROUNDS) SECONDS=$(SECONDS) $(BIN)/python -m benchmarks.compare $(BASE) $(PARTS)

# Draws a flame graph of the server under one load: make profile SCENARIO=append-durable [OUT=file.svg] [SECONDS=8]; without a
# scenario it lists them.
profile: $(STAMPS)/dev $(STAMPS)/bench $(STAMPS)/wrk
	$(BIN)/python -m benchmarks.flame $(SCENARIO) $(OUT)

# Renews the locked versions from pyproject.toml.
lock: $(STAMPS)/dev
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header pyproject.toml --group build -o requirements/run.txt
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header pyproject.toml --group build --group dev -o requirements/dev.txt
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --group pyproject.toml:bench -o requirements/bench.txt
	npm install --package-lock-only
	cd benchmarks && npm install --package-lock-only

clean:
	rm -rf $(VENV) $(STAMPS) node_modules benchmarks/.venv benchmarks/.rust benchmarks/.caddy benchmarks/node_modules benchmarks/scratch .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Dependencies come from the lock files alone, and the project itself is built with what they hold.
define install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(1)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@mkdir -p $(STAMPS)
	@touch $@
endef

$(STAMPS)/run: requirements/run.txt pyproject.toml | $(BIN)/python
	$(call install,requirements/run.txt)

$(STAMPS)/dev: requirements/dev.txt pyproject.toml | $(BIN)/python
	$(call install,requirements/dev.txt)
	@touch $(STAMPS)/run

$(STAMPS)/node: package-lock.json .npmrc
	npm ci --silent
	@mkdir -p $(STAMPS)
	@touch $@

# The servers that benchmarks compare with, and the profiler, apart from everything else.
$(STAMPS)/bench: requirements/bench.txt benchmarks/package-lock.json
	$(PYTHON) -m venv benchmarks/.venv
	benchmarks/.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.txt
	cd benchmarks && npm ci --silent
	@mkdir -p $(STAMPS)
	@touch $@

# wrk is a Debian package, not one of Python's or Node's.
$(STAMPS)/wrk:
	@command -v wrk >/dev/null || { echo "wrk is not installed: installing it with apt-get"; apt-get update -qq && apt-get install -y -qq wrk; }
	@mkdir -p $(STAMPS)
	@touch $@

# The browser and the proxies that tests run are Debian packages. Each command stands before the package that has it.
$(STAMPS)/debian:
	@PATH="$$PATH:/usr/sbin"; missing=; \
	for each in chromium=chromium nginx=nginx-light caddy=caddy haproxy=haproxy; do \
		command -v "$${each%=*}" >/dev/null || missing="$$missing $${each#*=}"; \
	done; \
	if [ -n "$$missing" ]; then \
		echo "tests need packages that are not installed: installing$$missing with apt-get"; \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; } || \
		{ echo "apt-get could not install$$missing: install these packages as root, then run make again" >&2; exit 1; }; \
	fi
	@mkdir -p $(STAMPS)
	@touch $@

# Two more servers that benchmarks compare with, a crate and a Go module. Where one of them cannot be had, it is left out, and the next run
# tries again.
$(STAMPS)/rust-$(RUST_PEER):
	@if PATH="$$PATH:$$HOME/.cargo/bin" cargo install --quiet --locked --version $(RUST_PEER) --root benchmarks/.rust durable-streams; \
	then mkdir -p $(STAMPS) && touch $@; \
	else echo "the Rust server is left out of the benchmarks: cargo cannot install durable-streams $(RUST_PEER)"; fi

$(STAMPS)/caddy-$(CADDY_PEER):
	@if PATH="$$PATH:/usr/local/go/bin" GOBIN="$(CURDIR)/benchmarks/.caddy" GOFLAGS=-modcacherw \
	go install github.com/durable-streams/durable-streams/packages/caddy-plugin/cmd/caddy@$(CADDY_PEER); \
	then mkdir -p $(STAMPS) && touch $@; \
	else echo "the Caddy module is left out of the benchmarks: go cannot install it at $(CADDY_PEER)"; fi
