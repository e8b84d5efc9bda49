# Every target sets itself up first: a machine needs Python 3.11 or newer and make, nothing else.
#   make test ARGS="tests/test_config.py -x"     pass arguments on (test, quickstart, demo, lock)
#   make setup PYTHON=python3.12                 choose the Python that .venv is made from

PYTHON ?= python3
WORKERS ?= 2
QUICKSTART := runs/quickstart
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup system-packages quickstart demo test lint format docs lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' Makefile

setup: .venv/.ready ## make .venv: everything that requirements.lock pins, and this checkout

# The stamp is newer than what it was made from exactly when .venv is up to date, so a second run costs nothing.
.venv/.ready: requirements.lock pyproject.toml .ci/setup .ci/uv
	@sh .ci/setup "$(PYTHON)"

system-packages: ## install the browser and the fonts that the browser tests use (Debian, Ubuntu)
	@sh .ci/system-packages

quickstart: setup ## real data -> train -> evaluate -> report, in minutes on a CPU
	$(BIN)/mminstruct quickstart $(ARGS)

demo: setup ## chat in the browser with the model that quickstart made
	$(BIN)/mminstruct demo $(QUICKSTART)/model $(ARGS)

# One thread a worker: two workers share two cores instead of fighting over them. Nothing is fetched from a hub.
# -v lifts the configured -q, for pytest's full closing line; -rs says why a test was skipped. Bytecode is written even
# where the environment says otherwise: many tests start a process, and without it each compiles all of torch and
# transformers that it imports, which takes longer than the imports.
test: setup system-packages ## run the whole test suite
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1 \
		$(BIN)/python -m pytest -v -rs -n $(WORKERS) --dist worksteal $(ARGS)

lint: setup ## check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup ## mend style and formatting in place
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup ## renew the pages that are generated (docs/zoo.md)
	$(BIN)/mminstruct zoo docs --out docs/zoo.md

# Pins for Linux and macOS and every Python from 3.11 on in one file. Versions stay unless they must move;
# ARGS=--upgrade moves all, ARGS="--upgrade-package NAME" one. No annotations: `uv pip tree` says what needs what.
lock: setup ## resolve pyproject.toml into requirements.lock again
	sh .ci/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
		--no-header --no-annotate --no-emit-index-url --quiet --output-file requirements.lock $(ARGS)

clean: ## remove .venv, caches and build leftovers (never runs/, where your models are)
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
