# Needs Python 3.11 or newer, make and a package index; everything else is installed into
# $(VENV) in this folder. Another Python beside it:
#   make test PYTHON=python3.12 VENV=.venv-3.12
PYTHON ?= python3
VENV ?= .venv
# What is installed: dev (tests and checks) or test (tests only).
EXTRA ?= dev
# More arguments for pytest, such as ARGS="-k exchange -x".
ARGS ?=
# Processes of the tests: many of them wait for servers and programs, so twice as many as cores.
WORKERS ?= 4
# A file of tests stays together, and the files keep the order that tests/kit/order.py gives them.
BY_FILE := --dist loadfile --no-loadscope-reorder

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-$(EXTRA)
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z][a-z-]*:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: env
env: $(STAMP) ## Build the environment in .venv, once

.PHONY: test
test: $(STAMP) ## Run the tests on real servers from wheels, and on redis-server if it is there
	@$(BIN)/python -m pytest -n $(WORKERS) $(BY_FILE) $(ARGS)

.PHONY: test-rest
test-rest: $(STAMP) ## What make test leaves out: long tests, and more on the second server
	@$(BIN)/python -m pytest -n $(WORKERS) $(BY_FILE) -m "second_server or long" $(ARGS)

# Tests start programs by the hundred. Where the shell forbids compiled files, each of them would
# compile the whole package for itself.
test test-rest: export PYTHONDONTWRITEBYTECODE =

.PHONY: demo
demo: $(STAMP) ## One job for each file of the standard library, on a real server and worker
	@$(BIN)/python examples/stdlib_census $(ARGS)

.PHONY: chaos
chaos: $(STAMP) ## Kill and stop real workers, restart the store, cut lines: SECONDS=60 SEED=...
	@$(BIN)/python -m tests.chaos --seconds $(or $(SECONDS),60) $(if $(SEED),--seed $(SEED)) $(ARGS)

.PHONY: simulation
simulation: $(STAMP) ## Client, workers and store on a virtual clock: SEEDS=10000
	@$(BIN)/python -m tests.simulation --seeds $(or $(SEEDS),10000) $(ARGS)

.PHONY: mutants
mutants: $(STAMP) ## Remove each rule that keeps the promise; a test must fail for each
	@$(BIN)/python tools/mutants.py $(ARGS)

.PHONY: bench
bench: $(STAMP) ## Measure every shape, into benchmarks/results: ARGS="pickup idle --rounds 5"
	@$(BIN)/python -m benchmarks run $(ARGS)

.PHONY: bench-quick
bench-quick: $(STAMP) ## A smoke of every shape; its figures mean nothing
	@$(BIN)/python -m benchmarks run --quick $(ARGS)

.PHONY: check
check: lint types layers docs ## Everything that needs no server: lint, types, layers, docs

.PHONY: lint
lint: $(STAMP) ## Style and formatting, by ruff
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

.PHONY: format
format: $(STAMP) ## Format the code and apply the safe fixes
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

.PHONY: types
types: $(STAMP) ## Types of the package, by mypy (strict) and pyright
	@$(BIN)/mypy
	@PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python

.PHONY: layers
layers: $(STAMP) ## Imports go down only, by import-linter
	@$(BIN)/lint-imports --no-cache --no-logo

.PHONY: docs
docs: $(STAMP) ## Links, code blocks and reference pages of the documents; sizes, exports
	@$(BIN)/python -m pytest -q tests/unit/test_repository.py tests/unit/test_measures.py tests/docs/test_paths.py
	@$(BIN)/python tools/pages.py --check

.PHONY: measures
measures: $(STAMP) ## How the code reads, in figures: ARGS=--where tells each place
	@$(BIN)/python tools/measures.py $(ARGS)

.PHONY: settings
settings: $(STAMP) ## Write docs/reference/ from the code: settings, CLI, API, telemetry
	@$(BIN)/python tools/pages.py

.PHONY: clean
clean: ## Remove the environments and what the tools leave behind
	@rm -rf .venv .venv-* build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is written last: an installation that broke off is done again.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("$(PYTHON) is %d.%d; say make PYTHON=... with 3.11 or newer" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@$(BIN)/python -c '' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	@echo "installing the $(EXTRA) environment into $(VENV)"
	@$(PIP) install --constraint constraints.txt --editable '.[$(EXTRA)]'
	@touch $@
