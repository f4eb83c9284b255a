# `make demo` and `make test` are all a fresh machine needs: each installs into .venv first.

PYTHON ?= python3
# The release installed on machines without a GPU; GPU machines keep, or get, one that fits their driver.
TORCH ?= 2.13.0
DEMO_ARGS ?=
PYTEST_ARGS ?=
# Processes that share the files of tests out. The slow tests run one by one: most of them want both cores, or time limits
# of real schedulers to hold.
WORKERS ?= 2

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
SYSTEM_TORCH := $(VENV)/system-torch.txt

export MLFLOW_DISABLE_TELEMETRY := true
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow lint

help: ## show these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  variables: PYTHON, TORCH (CPU machines), DEMO_ARGS, PYTEST_ARGS (tests/eval, -k NAME), WORKERS"

install: $(INSTALLED) ## create .venv and install acn-lm with its development tools

demo: $(INSTALLED) ## run the whole chain offline on this machine, in minutes
	$(BIN)/acn demo $(DEMO_ARGS)

test: $(INSTALLED) ## run the tests, all but the slow ones
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "not slow" $(PYTEST_ARGS)

test-slow: $(INSTALLED) ## run the slow tests
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

lint: $(INSTALLED) ## ruff (rules and format) and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# torch goes first and by hand: with a loose version pip may fetch gigabytes of CUDA libraries for a machine
# without a GPU, or replace the torch that a GPU image was built around.
$(INSTALLED): pyproject.toml
	@set -eu; \
	echo "installing acn-lm into $(VENV) (a few minutes the first time)"; \
	if ! nvidia-smi >/dev/null 2>&1; then \
	  $(PYTHON) -m venv $(VENV); \
	  $(BIN)/python -m pip install -q "torch==$(TORCH)"; \
	  $(BIN)/python -m pip install -q -e ".[dev]"; \
	elif $(PYTHON) -c 'from importlib.metadata import version as v; assert tuple(map(int, v("torch").split(".")[:2])) >= (2, 11)' 2>/dev/null; then \
	  echo "using the torch that $(PYTHON) has already"; \
	  $(PYTHON) -m venv --system-site-packages $(VENV); \
	  $(PYTHON) -c 'from importlib.metadata import version as v; print("torch==" + v("torch"))' >$(SYSTEM_TORCH); \
	  $(BIN)/python -m pip install -q -c $(SYSTEM_TORCH) -e ".[dev]"; \
	else \
	  $(PYTHON) -m venv $(VENV); \
	  $(BIN)/python -m pip install -q "torch>=2.11"; \
	  $(BIN)/python -m pip install -q -e ".[dev]"; \
	fi
	@touch $@
