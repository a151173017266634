# make demo: the whole chain on the demo catalogue.  make test: the fast tests.  Both build their own environment.
#
# On Linux the package index serves torch with CUDA. Where there is no NVIDIA card, the CPU build is far smaller:
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check install -q

.PHONY: demo test test-all lint docs install clean
install: $(VENV)/.installed

# torch first, so that its index is asked for nothing else.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) 'torch>=2.6,<2.14'
	$(PIP) -e '.[dev]'
	touch $@

demo: install
	PATH="$(abspath $(BIN)):$$PATH" bash examples/demo.sh demo

test: install
	$(BIN)/python -m pytest -q

test-all: install
	$(BIN)/python -m pytest -q -m ''

lint: install
	$(BIN)/ruff check bbqrec_cli tests docs examples
	$(BIN)/ruff format --check bbqrec_cli tests docs examples
	$(BIN)/mypy

# The pages and configuration files that are made from the program.
docs: install
	$(BIN)/python docs/generate.py

clean:
	rm -rf $(VENV) demo
