# Each target sets up what it needs: a machine with Python 3.11 or newer is enough.
# Packages come from requirements/, pinned and hash-checked, into .venv.

PYTHON ?= python3
# Passed on to the command behind a target, as in: make demo ARGS=path/to/a/tree
ARGS ?=
# How many processes the tests run in.
TEST_PROCESSES ?= 2

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
CHECKED := src tests $(wildcard benchmarks examples)

.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench docs lock clean

help: ## Say what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-6s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## Install the pinned packages and Callboard itself into .venv

demo: $(READY) ## Survey a source tree with three workers, one of which is killed (ARGS=path)
	$(BIN)/callboard demo $(ARGS)

test: $(READY) ## Run all tests on a real engine (ARGS="-k name" runs some)
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadgroup $(ARGS)

check: $(READY) ## Lint, format, types, import contract, house rules
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)
	$(BIN)/mypy $(CHECKED)
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/house

bench: $(READY) ## Measure this machine beside named peers (ARGS=--help says what can be chosen)
	$(BIN)/python -m benchmarks $(ARGS)

docs: $(READY) ## Build the documentation into build/docs; a broken link is an error
	$(BIN)/zensical build --clean --strict

lock: $(VENV)/bin/python ## Resolve requirements/*.in into pinned lists with hashes
	$(PIP) install --require-hashes -r requirements/lock.txt
	@for list in runtime dev lock; do \
		(cd requirements && ../$(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
			--generate-hashes --no-emit-index-url --no-emit-find-links --no-header \
			$$list.in --output-file $$list.txt $(ARGS)) || exit 1; \
	done

clean: ## Remove what the other targets made
	rm -rf $(VENV) build dist .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@command -v $(PYTHON) >/dev/null || { \
		echo "No '$(PYTHON)' here. Install Python 3.11 or newer, or name one: make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "'$(PYTHON)' is $$($(PYTHON) -V 2>&1); Callboard needs 3.11 or newer. Name one: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "'$(PYTHON)' lacks the venv module. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Made again when a pinned package or the project's own metadata changes.
$(READY): requirements/dev.txt pyproject.toml | $(VENV)/bin/python
	$(PIP) install --require-hashes -r requirements/dev.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@
