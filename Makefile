# Two commands for a fresh machine with Python 3.11 or newer and a package index: `make audit` and `make test`.
# Everything goes into .venv; delete it (or `make clean`) to start afresh.

PYTHON ?= python3
VENV   ?= .venv
JOBS   ?= 2
ARGS   ?=

BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help audit test bench calibration lint docs-check clean

help:  ## say what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F '\t' '{printf "make %-12s %s\n", $$1, $$2}'

# The stamps are newer than the files they were made from, so a second run installs nothing.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Expected Python 3.11 or newer, got $$($(PYTHON) --version). Try: make PYTHON=python3.12 audit" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.built: constraints.txt | $(BIN)/python
	$(PIP) install --quiet -c constraints.txt hatchling editables
	@touch $@

$(VENV)/.audit: pyproject.toml constraints.txt $(VENV)/.built
	$(PIP) install --quiet --no-build-isolation -c constraints.txt -e '.[models,demo]'
	@touch $@

$(VENV)/.test: $(VENV)/.audit
	$(PIP) install --quiet --no-build-isolation -c constraints.txt -e '.[models,demo,test]'
	@touch $@

audit: $(VENV)/.audit  ## install, then audit the bundled models on the bundled cells; prints the path of report.html
	@$(BIN)/regulens audit $(ARGS)

test: $(VENV)/.test  ## the whole test suite, without the long calibration
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile -q -m 'not long' $(ARGS)

calibration: $(VENV)/.test  ## the long statistical calibration: type-I error, coverage, power, worlds; writes the tables of docs
	@$(BIN)/python benchmarks/calibrate_statistics.py --worlds 600
	@$(BIN)/python benchmarks/calibrate_analyses.py --worlds 100 --jobs $(JOBS)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile -q -m long tests $(ARGS)

bench: $(VENV)/.test  ## speed and memory, written to benchmarks/results
	@for script in benchmarks/bench_*.py; do echo "== $$script" >&2; $(BIN)/python $$script || exit 1; done

lint: $(VENV)/.test  ## style and formatting
	@$(BIN)/ruff check src tests benchmarks scripts
	@$(BIN)/ruff format --check src tests benchmarks scripts

docs-check: $(VENV)/.test  ## links, commands and keys of the documentation against the package
	@$(BIN)/python -m pytest -q tests/package/test_docs.py

clean:  ## remove the environment and caches; run folders stay
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis build dist
	find src tests benchmarks scripts -name __pycache__ -type d -prune -exec rm -rf {} +
