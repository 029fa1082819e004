# `make serve` and `make test` set up everything on a machine with Python and Node. `make help` lists all targets.

PYTHON ?= python3
RUST_PEER := 0.1.5
CADDY_PEER := 1e64846eb5190ae024e7cffdd76341f34812580f
VENV := .venv
BIN := $(VENV)/bin
STAMPS := .stamps
# Processes that run tests side by side. Many tests wait for clients and servers, so there are more processes than two cores.
JOBS ?= 4
PARALLEL := -n $(JOBS) --dist worksteal
# The folders that mirror the source, without the command line, whose tests start processes.
UNIT := $(addprefix tests/,protocol storage streams subscriptions http testing docs) $(wildcard tests/test_*.py)

.PHONY: help serve test unit lint format rooms settings conformance interop browser crash damage subscriptions fuzz openapi extremes hostile overload soak planted bench protected compare profile lock clean

help: ## List the targets.
	@sed -n 's/^\([a-z]*\):.*## /\1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do printf '%-14s %s\n' "$$name" "$$text"; done

serve: $(STAMPS)/run ## Run the server on 127.0.0.1:4437.
	$(BIN)/durable-streams-server serve --host 127.0.0.1 --port 4437

test: lint $(STAMPS)/node $(STAMPS)/debian $(STAMPS)/promtool ## Run everything that CI runs: lint, all tests, the official suites and clients.
	$(BIN)/python -m pytest $(PARALLEL)

unit: $(STAMPS)/dev ## Run the tests that are not slow, in less than a minute.
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow" $(UNIT)

lint: $(STAMPS)/dev ## Check style, format, types and the import rules.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMPS)/dev ## Format the code.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

rooms: $(STAMPS)/dev ## Renew docs/rooms.md from the imports and docstrings.
	$(BIN)/python docs/rooms.py

settings: $(STAMPS)/dev ## Renew the tables of docs/settings.md from the definition of the settings.
	$(BIN)/python docs/settings.py

conformance: $(STAMPS)/dev $(STAMPS)/node ## Run the official conformance suite.
	$(BIN)/python -m pytest tests/conformance

interop: $(STAMPS)/dev $(STAMPS)/node ## Run official clients and the npm packages that are built on streams.
	$(BIN)/python -m pytest tests/interop

browser: $(STAMPS)/dev $(STAMPS)/node $(STAMPS)/debian ## Run the tests with Chromium and with proxies.
	$(BIN)/python -m pytest tests/browser tests/proxies

crash: $(STAMPS)/dev ## Simulate crashes: make crash SEEDS=10000 SEED0=0
	$(BIN)/python -m tests.crash.hunt $(or $(SEED0),0) $(or $(SEEDS),2000)

damage: $(STAMPS)/dev ## Damage random files of a data directory: make damage SEEDS=10000 SEED0=0
	$(BIN)/python -m tests.damage.sweep $(or $(SEED0),0) $(or $(SEEDS),10000)

subscriptions: $(STAMPS)/dev ## Look for lost, doubled and late deliveries: make subscriptions SEEDS=5000 SEED0=0
	$(BIN)/python -m tests.delivery.hunt $(or $(SEED0),0) $(or $(SEEDS),500)

fuzz: $(STAMPS)/dev ## Compare pipelined and split requests with the same requests alone: make fuzz SEEDS=100000 SEED0=0
	$(BIN)/python -m tests.http.conversations $(or $(SEED0),0) $(or $(SEEDS),10000)

openapi: $(STAMPS)/dev ## Send generated requests for every operation of the OpenAPI document: make openapi EXAMPLES=1000 SEED0=0
	$(BIN)/python -m tests.openapi.hunt $(or $(SEED0),0) $(or $(EXAMPLES),300)

extremes: $(STAMPS)/dev ## Send extreme values in every place of a request, then kill and restart: make extremes SHARE=1
	$(BIN)/python -m tests.extremes.sweep $(or $(SHARE),1)

hostile: $(STAMPS)/dev ## Run every kind of hostile client against one server: make hostile SECONDS=60 [KINDS="sip reset"]
	$(BIN)/python -m tests.hostile $(or $(SECONDS),60) $(KINDS)

overload: $(STAMPS)/dev $(STAMPS)/wrk ## Load servers with five times what they can do, and let 10,000 clients read slowly.
	$(BIN)/python -m tests.overload

soak: $(STAMPS)/dev ## Restart a server under mixed load, then look for lost appends and leaks: make soak MINUTES=10 [SEED=1]
	$(BIN)/python -m tests.soak $(or $(MINUTES),10) $(SEED)

planted: $(STAMPS)/dev ## Plant each storage bug of docs/traps.md in a copy of the source, and show that a test finds it.
	$(BIN)/python -m tests.crash.planted

# Renews benchmarks/results.json and docs/performance.md. Without PARTS all parts run.
bench: $(STAMPS)/dev $(STAMPS)/bench $(STAMPS)/wrk $(STAMPS)/rust-$(RUST_PEER) $(STAMPS)/caddy-$(CADDY_PEER) ## Measure this server and others: make bench [PARTS="append sse"] [ROUNDS=3] [SECONDS=4]
	ROUNDS=$(ROUNDS) SECONDS=$(SECONDS) $(BIN)/python -m benchmarks $(PARTS)

protected: $(STAMPS)/dev $(STAMPS)/wrk ## Measure what access control and limits cost an append on files.
	ROUNDS=$(ROUNDS) SECONDS=$(SECONDS) $(BIN)/python -m benchmarks.protected

compare: $(STAMPS)/dev $(STAMPS)/wrk ## Measure this checkout beside another in one run: make compare BASE=../other [PARTS="append sse-one"]
	ROUNDS=$(ROUNDS) SECONDS=$(SECONDS) $(BIN)/python -m benchmarks.compare $(BASE) $(PARTS)

profile: $(STAMPS)/dev $(STAMPS)/bench $(STAMPS)/wrk ## Draw a flame graph of one load, or list the loads: make profile SCENARIO=append-durable [OUT=file.svg]
	$(BIN)/python -m benchmarks.flame $(SCENARIO) $(OUT)

lock: $(STAMPS)/dev ## Renew the lock files from pyproject.toml and package.json.
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header pyproject.toml --group build -o requirements/run.txt
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header pyproject.toml --group build --group dev -o requirements/dev.txt
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --group pyproject.toml:bench -o requirements/bench.txt
	npm install --package-lock-only
	cd benchmarks && npm install --package-lock-only

clean: ## Remove everything that make has installed.
	rm -rf $(VENV) $(STAMPS) node_modules benchmarks/.venv benchmarks/.rust benchmarks/.caddy benchmarks/node_modules benchmarks/scratch .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Installs a lock file, and then the project itself without any further dependency.
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

# The benchmarks have an environment of their own for the servers that they compare with, and for the profiler.
$(STAMPS)/bench: requirements/bench.txt benchmarks/package-lock.json
	$(PYTHON) -m venv benchmarks/.venv
	benchmarks/.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.txt
	cd benchmarks && npm ci --silent
	@mkdir -p $(STAMPS)
	@touch $@

# wrk is a Debian package.
$(STAMPS)/wrk:
	@command -v wrk >/dev/null || { echo "wrk is not installed: installing it with apt-get"; apt-get update -qq && apt-get install -y -qq wrk; }
	@mkdir -p $(STAMPS)
	@touch $@

# The tests run a browser and proxies from Debian packages. Each entry is a command and the package that contains it.
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

# promtool checks the metrics and the alert rules. It is taken out of the Debian package of Prometheus, which would also start a server.
$(STAMPS)/promtool:
	@mkdir -p $(STAMPS)
	@if command -v promtool >/dev/null; then ln -sf "$$(command -v promtool)" $@; else \
		echo "promtool is not installed: taking it out of a Debian package"; \
		mkdir -p $(STAMPS)/prometheus && cd $(STAMPS)/prometheus && apt-get update -qq && apt-get download -qq prometheus && \
		dpkg-deb -x prometheus_*.deb . && mv usr/bin/promtool .. && cd .. && rm -r prometheus; \
	fi

# The benchmarks also compare with a Rust crate and a Go module. If one of them cannot be installed, the benchmarks omit it, and the next
# run tries again.
$(STAMPS)/rust-$(RUST_PEER):
	@if PATH="$$PATH:$$HOME/.cargo/bin" cargo install --quiet --locked --version $(RUST_PEER) --root benchmarks/.rust durable-streams; \
	then mkdir -p $(STAMPS) && touch $@; \
	else echo "the Rust server is left out of the benchmarks: cargo cannot install durable-streams $(RUST_PEER)"; fi

$(STAMPS)/caddy-$(CADDY_PEER):
	@if PATH="$$PATH:/usr/local/go/bin" GOBIN="$(CURDIR)/benchmarks/.caddy" GOFLAGS=-modcacherw \
	go install github.com/durable-streams/durable-streams/packages/caddy-plugin/cmd/caddy@$(CADDY_PEER); \
	then mkdir -p $(STAMPS) && touch $@; \
	else echo "the Caddy module is left out of the benchmarks: go cannot install it at $(CADDY_PEER)"; fi
