# Two commands: `make demo` and `make test`. Each installs what it needs into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

.PHONY: install-test test lint
install-test: $(BIN)/python
	$(BIN)/python -m pip install -q ".[test]"

test: install-test
	$(BIN)/python -m pytest

lint: $(BIN)/python
	$(BIN)/python -m pip install -q "ruff>=0.6"
	$(BIN)/ruff check python tests
