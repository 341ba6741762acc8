# The one door. `make demo` and `make test` set up what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
# Processes that may not keep bytecode compile the whole program each time they start.
export PYTHONDONTWRITEBYTECODE :=
SOAK_RUNS ?= 10
SOAK_OPERATIONS ?= 100000

.PHONY: help setup demo soak test check bench proto fmt docs clean

help:
	@echo "make setup   a virtual environment in .venv, with the command .venv/bin/essa"
	@echo "make demo    one host, four guests, memory overcommitted 2:1, without and with hints"
	@echo "make soak    $(SOAK_RUNS) runs of $(SOAK_OPERATIONS) operations under constant eviction"
	@echo "make test    the test suite"
	@echo "make check   formatting, lint, types, import contracts, tidiness of the tree"
	@echo "make bench   ratios against an echo; BENCH_JSON=FILE writes them as JSON"
	@echo "make proto   regenerate the stubs; make docs  regenerate the generated documents"
	@echo "make fmt     format the sources"

setup: $(STAMP)

$(STAMP): pyproject.toml requirements.lock host_daemon/core/_essa_pass.c
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or later is needed: make setup PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

demo: $(STAMP)
	$(BIN)/essa demo

soak: $(STAMP)
	@for seed in $$(seq 1 $(SOAK_RUNS)); do \
	  echo "run $$seed of $(SOAK_RUNS)"; \
	  $(BIN)/essa soak --seed $$seed --operations $(SOAK_OPERATIONS) || exit 1; \
	done

test: $(STAMP)
	$(BIN)/python -m pytest -n auto --dist loadfile

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q -m "not process" tests/tidy

bench: $(STAMP)
	$(BIN)/python -m bench $(if $(BENCH_JSON),--json $(BENCH_JSON))

proto: $(STAMP)
	$(BIN)/python proto/generate.py

docs: $(STAMP)
	$(BIN)/python -m host_daemon.core.describe > docs/STATES.md
	$(BIN)/python -m race_explorer.catalogue > docs/RACES.md
	$(BIN)/python -m essa_cli.metrics_document > docs/METRICS.md

fmt: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build *.egg-info
