# Two commands do all the set-up they need: `make demo` runs the main job, `make test` runs the tests.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
DATA ?= ../shared/data/text/tinyshakespeare.txt
BIN := $(VENV)/bin
STAMP := $(VENV)/.unstuck-installed

.PHONY: setup demo test lint benchmark clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "unstuck needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,operator,dev]'
	touch $@

demo: setup
	$(BIN)/unstuck demo $(if $(INCIDENT),--incident $(INCIDENT))

# One process a core, one thread a process: half the time of one process on two cores.
test: setup lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

benchmark: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[benchmark]'
	$(BIN)/python benchmarks/training.py --data $(DATA)

clean:
	rm -rf $(VENV)
