# Every task of the project. `make` alone prints them; each target's `##` text is its help.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
UV_VERSION := 0.13.9
# uv from PATH where it is there, else from the package index into .tools (never into the user's own Python).
UV ?= $(shell command -v uv 2>/dev/null || echo .tools/uv/bin/uv)
export UV_PYTHON_DOWNLOADS ?= never
RUN := .venv/bin/

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^## /{printf "\n%s\n", substr($$0, 4)} /^[a-zA-Z_-]+:.*## /{printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

## Start
.PHONY: run env
run: env ## Serve the digits sample here and ask it about real handwriting (ARGS=--once ends after the answers)
	@PATH="$(CURDIR)/.tools/uv/bin:$$PATH" $(RUN)python tools/demo.py $(ARGS)

env: .venv/.synced ## Build the environment (.venv) from uv.lock

.tools/uv/bin/uv:
	@echo "uv is not on PATH: installing it into .tools/uv"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "Python 3.10 or newer is needed; $(PYTHON) is $$($(PYTHON) -V)" >&2; exit 1; }
	@$(PYTHON) -m venv .tools/uv && .tools/uv/bin/python -m pip install --quiet uv==$(UV_VERSION)

.venv/.synced: pyproject.toml uv.lock | $(filter .tools/%,$(UV))
	@$(UV) sync --locked --all-extras --quiet
	@touch $@

## Check
.PHONY: check lint types walls generated test clients floors faults
check: lint types walls generated test ## The gate: everything below except the slow ones

lint: env ## Format and style (ruff)
	@$(RUN)ruff format --check .
	@$(RUN)ruff check .

types: env ## Types (mypy, strict)
	@$(RUN)mypy

walls: env ## The load-bearing walls (import-linter)
	@$(RUN)lint-imports --no-logo

generated: env ## Check that what is generated is up to date (make gen, make docs)
	@$(RUN)python runtime/proto/generate.py --check
	@$(RUN)python tools/docs.py --check

test: env apiserver-tools ## The tests, on a real API server among others
	@PATH="$(CURDIR)/.tools/uv/bin:$$PATH" $(RUN)pytest

clients: env ## Third-party clients against the runtime: Python, Go, Node.js, Java and tools (first time: minutes to fetch and build)
	@PATH="$(CURDIR)/.tools/uv/bin:$$PATH" $(RUN)pytest -m clients $(ARGS)

floors: env ## The runtime's tests with the lowest and highest dependencies, on Python 3.10 to 3.13 (ARGS=3.10:lowest-direct)
	@PATH="$(CURDIR)/.tools/uv/bin:$$PATH" $(RUN)python tools/floors.py $(ARGS)

faults: env ## A thousand faults, 200,000 requests under kills, a minute of every attack at once (about six minutes)
	@$(RUN)pytest -m slow --timeout=900 tests/runtime/supervisor tests/runtime/server

## Change
.PHONY: format docs lock clean
format: env ## Format the code and mend what ruff can mend
	@$(RUN)ruff format .
	@$(RUN)ruff check --fix .

docs: env ## Write into docs/ what the code knows
	@$(RUN)python tools/docs.py

lock: | $(filter .tools/%,$(UV)) ## Renew uv.lock
	@$(UV) lock

clean: ## Remove what was built (not the caches outside the tree)
	@rm -rf .venv .tools dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis

# Tasks of one area live beside it.
-include runtime/proto/proto.mk operator/operator.mk tools/cluster/cluster.mk tests/fuzz/fuzz.mk bench/bench.mk helm/chart.mk
