# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# The environment lies in tools/venv; another one is taken with `make test VENV=/path/to/venv` (or ESPNET_AV_VENV).
# With an active conda environment: `make test INSTALL_OPTIONS=--conda PYTHON=python`.

VENV ?= $(or $(ESPNET_AV_VENV),tools/venv)
PYTHON ?= $(VENV)/bin/python
INSTALL_OPTIONS ?= --venv $(VENV)
DEMO_OPTIONS ?=
TEST_OPTIONS ?=
TEST_JOBS ?= 2
FAULT_OPTIONS ?=
DOCS := $(subst /,.,$(patsubst %/__init__,%,$(basename $(filter-out espnet_av/_%,$(wildcard espnet_av/*.py espnet_av/*/__init__.py)))))

export PYTHONPATH := $(CURDIR)$(if $(PYTHONPATH),:$(PYTHONPATH))
export ESPNET_AV_PYTHON := $(if $(findstring /,$(PYTHON)),$(abspath $(PYTHON)),$(PYTHON))

.DEFAULT_GOAL := help
.PHONY: help env doctor demo test test-slow test-slurm faults check format docs bench clean clean-env

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: ## Build the environment in tools/venv (about 5 GB, minutes; quick when it is up to date)
	@bash tools/install.sh $(INSTALL_OPTIONS)

doctor: ## Check this machine and the environment, and say how to fix what is wrong
	@if [ -x "$(PYTHON)" ]; then "$(PYTHON)" espnet_av/bin/doctor.py; else python3 espnet_av/bin/doctor.py; fi

demo: env ## Run the main recipe, speech recognition from talking faces, on a generated corpus
	@bash egs/mini_av/avsr/run.sh $(DEMO_OPTIONS)

test: env ## Run the tests
	@$(PYTHON) -m pytest -n $(TEST_JOBS) --dist loadfile $(TEST_OPTIONS)

test-slow: env ## Run the tests that take minutes
	@$(PYTHON) -m pytest -m slow $(TEST_OPTIONS)

faults: env ## Hurt trainings and stages: kills, full disks, damaged files, wrong clocks (FAULT_OPTIONS="--only disk")
	@$(PYTHON) test/trust/fault_campaign.py $(FAULT_OPTIONS)

test-slurm: env ## Run the tests on a real Slurm of two nodes on this machine (root; Debian: slurmctld slurmd munge)
	@$(PYTHON) -m pytest -m slurm test/utils $(TEST_OPTIONS)

check: env ## Check style and types: ruff, mypy, ShellCheck and the house rules
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m mypy
	@{ git ls-files '*.sh'; git grep -lE '^#!/usr/bin/env bash' -- utils .ci; } | sort -u \
	  | xargs "$$(dirname "$$(command -v $(PYTHON))")/shellcheck" -x -e SC1091
	@$(PYTHON) -m pytest -q test/test_house_rules.py

format: env ## Format the Python files
	@$(PYTHON) -m ruff check --fix .
	@$(PYTHON) -m ruff format .

docs: env ## Write the pages of the Python interface to build/docs
	@$(PYTHON) -m pdoc --docformat google --no-show-source --output-directory build/docs espnet_av $(DOCS)
	@echo "build/docs/index.html"

bench: env ## Run the side by side speed measurements
	@for script in test/bench/bench_*.py; do \
	  if [ -e "$$script" ]; then echo "== $$script"; $(PYTHON) "$$script" || exit 1; else echo "no test/bench/bench_*.py"; fi; \
	done

clean: ## Remove caches and build leftovers; recipes and the environment stay
	@find . -path ./tools/venv -prune -o -type d \( -name __pycache__ -o -name .pytest_cache -o -name .ruff_cache -o -name .mypy_cache \) \
	  -prune -exec rm -rf {} +
	@rm -rf build dist .hypothesis tools/install.log

clean-env: ## Remove tools/venv
	@rm -rf tools/venv tools/venv.lock
