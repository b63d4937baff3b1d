# One command per job. `make help` lists them.

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
# Test modules that run at the same time. End-to-end tests spend half of their time waiting.
JOBS ?= 3
E2E_JOBS ?= 4
# Each job imports all files that it is given, so it is given those only that have end-to-end tests.
E2E_FILES = $(shell grep -rlE 'mark\.e2e' tests --include='*.py' | LC_ALL=C sort)

# No telemetry, and no downloads from the Hugging Face hub.
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export PREFECT_CLIENT_ANALYTICS_ENABLED := false
export DO_NOT_TRACK := 1
export SCARF_NO_ANALYTICS := true
export HF_HUB_DISABLE_TELEMETRY := 1
export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false
export PYTHONUTF8 := 1
# Tests start hundreds of processes; without compiled modules each one takes two seconds longer.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup run check format test test-unit test-e2e bench bench-dedup bench-train bench-families bench-finetune bench-index bench-serve bench-suites bench-ops load-serve fault-injection \
	chaos docs stack stack-status stack-down clean

help: ## list these commands
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

setup: ## install everything into .venv and download the language identification model
	@scripts/setup.sh
	@$(BIN)/python -m infra.download.language_id >/dev/null

run: setup ## run the quickstart: crawl, read, filter, deduplicate, train, evaluate, report
	@$(BIN)/python -m examples.quickstart run -- $(ARGS)

stack: setup ## start all servers on this machine: Prefect, Postgres, Redis, S3, Dask, a worker
	@$(BIN)/python -m infra.deploy.stack up $(ARGS)

stack-status: ## show the state and the memory of each server of the stack
	@$(BIN)/python -m infra.deploy.stack status $(ARGS)

stack-down: ## stop all servers of the stack; their data stays
	@$(BIN)/python -m infra.deploy.stack down $(ARGS)

check: setup ## check formatting, lint, types and imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/shellcheck .ci/run $$(git ls-files '*.sh')

format: setup ## format, and apply automatic fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test-unit: setup ## run the tests that need no server and no network
	$(BIN)/pytest -m "not e2e" -n $(JOBS) --dist loadfile

test-e2e: setup ## run the end-to-end tests, with real servers and processes
	@scripts/system-deps.sh
	$(BIN)/pytest $(E2E_FILES) -m e2e -n $(E2E_JOBS) --dist loadfile --no-loadscope-reorder --durations=25

test: check test-unit test-e2e ## run everything that must pass before a change lands

bench bench-dedup bench-train bench-families: export PYTHONPATH := .
bench bench-dedup bench-train bench-families: export PYTHONUNBUFFERED := 1

bench: setup ## run all benchmarks
	@set -e; for script in benchmarks/bench_*.py; do $(BIN)/python "$$script"; done

bench-dedup: setup ## compare deduplication with peers: accuracy, speed, scale
bench-train: setup ## compare training with peers: quality gates, speed, parts of a step
bench-index: setup ## measure the source index beside a peer: build speed, size, queries
	$(BIN)/python -m benchmarks.bench_index
bench-serve: setup ## measure the endpoint beside llama.cpp's server, transformers serve and generate
	$(BIN)/python -m benchmarks.bench_serve

load-serve: setup ## load the endpoint with 200 clients for 10 minutes: nothing lost, memory flat
	$(BIN)/python -m benchmarks.serve_load $(ARGS)
bench-suites: setup ## compare the scores of suites with lm-eval's; find a benchmark that is in the training text
	$(BIN)/python -m benchmarks.bench_suites
	$(BIN)/python -m benchmarks.bench_contamination
bench-finetune: setup ## compare fine-tuning with peers, and measure the baselines on the real data
	$(BIN)/python -m benchmarks.bench_finetune
	$(BIN)/python -m benchmarks.bench_finetune_baselines
bench-ops: setup ## measure what orchestration costs, with ceilings
	$(BIN)/python -m benchmarks.bench_ops
bench-dedup: SCRIPTS := $(wildcard benchmarks/bench_dedup_*.py)
bench-families: setup ## compare the families of models with peers
bench-families: SCRIPTS := benchmarks/bench_ngram.py benchmarks/bench_embeddings.py benchmarks/bench_encoder.py benchmarks/bench_seq2seq.py benchmarks/bench_families.py
bench-train: SCRIPTS := benchmarks/bench_tokenize.py $(wildcard benchmarks/bench_train_*.py)
bench-dedup bench-train bench-families:
	@failed=0; for script in $(SCRIPTS); do \
		echo "== $$script"; $(BIN)/python "$$script" || failed=1; done; exit $$failed

fault-injection: export PYTHONPATH := .
fault-injection: setup ## kill every part of a training run at every critical moment (12 minutes)
	@$(BIN)/python -m benchmarks.fault_injection

chaos: setup ## disturb runs on real servers in every way, and print what became of each (an hour, as root)
	@scripts/system-deps.sh
	@$(BIN)/python -m benchmarks.chaos $(ARGS)

docs: setup ## write the references of settings and of quality rules from the code
	$(BIN)/python -m scripts.config_reference > docs/recipe.md
	$(BIN)/python -m scripts.rules_reference > docs/quality-rules.md

clean: ## remove the environment and the caches of tools; keeps data/
	rm -rf $(VENV) *.egg-info build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
