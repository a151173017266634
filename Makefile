# make demo: the whole chain on the demo catalogue.  make test: the fast tests.  Both build their own environment.
#
# On Linux the package index serves torch with CUDA. Where there is no NVIDIA card, the CPU build is far smaller:
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
GPU_CHECK ?=
JOBS ?= 4
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check install -q

.PHONY: demo test test-all lint docs site gpu-check install clean
install: $(VENV)/.installed

# torch first, so that its index is asked for nothing else.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) 'torch>=2.6,<2.14'
	$(PIP) -e '.[dev]'
	touch $@

demo: install
	PATH="$(abspath $(BIN)):$$PATH" bash examples/demo.sh demo

# In as many processes as there are cores, up to JOBS, each with one thread.
test: install
	$(BIN)/python -m pytest -q -n auto --maxprocesses $(JOBS) --dist worksteal

test-all: install
	$(BIN)/python -m pytest -q -m ''

lint: install
	$(BIN)/ruff check bbqrec_cli tests docs examples tools
	$(BIN)/ruff format --check bbqrec_cli tests docs examples tools
	$(BIN)/mypy

# The pages and configuration files that are made from the program.
docs: install
	$(BIN)/python docs/generate.py

# README.md, docs/ and the pages of docs/gallery.md as a site to read without a network: open site/index.html. A link to
# nowhere and every other warning fails.
site: install
	rm -rf site
	$(BIN)/python -m sphinx -q -W --keep-going -c docs -d site/.doctrees . site
	rm -rf site/.doctrees site/.buildinfo
	PATH="$(abspath $(BIN)):$$PATH" bash examples/pages.sh site/docs/gallery

# On a machine with an NVIDIA card: whether it computes what its CPU does, and how fast. By the Python that is there, with
# torch, faiss and the other packages: nothing is installed, and no network is needed.
#   make gpu-check GPU_CHECK="--output gpu.md --minutes 7"
gpu-check:
	PYTHONPATH="$(CURDIR)$${PYTHONPATH:+:$$PYTHONPATH}" $(PYTHON) -m tools.gpu_check $(GPU_CHECK)

clean:
	rm -rf $(VENV) demo site
