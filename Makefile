# make demo: the whole chain on the demo catalogue.  make test: the fast tests.  Both build their own environment.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test test-all lint install clean
install: $(VENV)/.installed

# The CPU build of torch first, so that a machine without a GPU does not fetch CUDA.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	touch $@

demo: install
	PATH="$(abspath $(BIN)):$$PATH" bash examples/demo.sh

test: install
	$(BIN)/python -m pytest -q

test-all: install
	$(BIN)/python -m pytest -q -m ''

lint: install
	$(BIN)/ruff check bbqrec_cli tests
	$(BIN)/ruff format --check bbqrec_cli tests
	$(BIN)/mypy

clean:
	rm -rf $(VENV) demo
