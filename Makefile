# One command per job. `make help` lists them.

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
# Modules of tests that run at once. End-to-end tests wait for two fifths of their time.
JOBS ?= 3

# Nothing here reports to anybody, and a machine without a GPU does not look for one.
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export PREFECT_CLIENT_ANALYTICS_ENABLED := false
export DO_NOT_TRACK := 1
export SCARF_NO_ANALYTICS := true
export HF_HUB_DISABLE_TELEMETRY := 1
export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false
export PYTHONUTF8 := 1

.DEFAULT_GOAL := help
.PHONY: help setup run check format test test-unit test-e2e bench bench-dedup bench-train fault-injection docs clean

help: ## list the commands
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: ## install everything into .venv, fetch the language identification model
	@scripts/setup.sh
	@$(BIN)/python -m infra.download.language_id >/dev/null

run: setup ## the quickstart: crawl, read, filter, deduplicate, train, evaluate, report
	@$(BIN)/python -m examples.quickstart run -- $(ARGS)

check: setup ## formatting, lint, types, imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: setup ## format and repair what can be repaired
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test-unit: setup ## tests that need no server and no network: seconds
	$(BIN)/pytest -m "not e2e" -n $(JOBS) --dist loadfile

test-e2e: setup ## tests that run the real thing: minutes
	@scripts/system-deps.sh
	$(BIN)/pytest -m e2e -n $(JOBS) --dist loadfile --durations=25

test: check test-unit test-e2e ## everything that must pass before a change lands

bench bench-dedup bench-train: export PYTHONPATH := .
bench bench-dedup bench-train: export PYTHONUNBUFFERED := 1

bench: setup ## figures beside those of peers
	@set -e; for script in benchmarks/bench_*.py; do $(BIN)/python "$$script"; done

bench-dedup: setup ## deduplication beside peers: truth, speed, scale
bench-train: setup ## training beside peers: gates, speed, parts of a step
bench-dedup: SCRIPTS := $(wildcard benchmarks/bench_dedup_*.py)
bench-train: SCRIPTS := benchmarks/bench_tokenize.py $(wildcard benchmarks/bench_train_*.py)
bench-dedup bench-train:
	@failed=0; for script in $(SCRIPTS); do \
		echo "== $$script"; $(BIN)/python "$$script" || failed=1; done; exit $$failed

fault-injection: export PYTHONPATH := .
fault-injection: setup ## kill what a training stands on, at each moment that hurts: twelve minutes
	@$(BIN)/python -m benchmarks.fault_injection

docs: setup ## write the references of settings and of quality rules from the code
	$(BIN)/python -m cli.config_reference > docs/recipe.md
	$(BIN)/python -m cli.rules_reference > docs/quality-rules.md

clean: ## remove the environment and what the tools left; data/ stays
	rm -rf $(VENV) *.egg-info build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
