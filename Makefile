# Everything a user or a pipeline runs; needs Python 3.11 or newer, and git.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# One thread a process: two worker processes with two torch threads each fight over two cores.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test check format bench matrix science schema clean help

help:  ## List the targets.
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 10

demo: $(BIN)/robustcheck  ## Install into .venv, and run the demonstration.
	$(BIN)/robustcheck demo

test: $(VENV)/.dev  ## Run the tests.
	$(BIN)/pytest -n 2

check: $(VENV)/.dev  ## Formatting, lint, types, architecture.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest tests/test_architecture.py

format: $(VENV)/.dev  ## Put the code into shape.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev  ## Measure speed and memory beside AnalogVNN and plain torch, and test the random numbers.
	$(BIN)/python tests/benchmarks/run.py

matrix: $(VENV)/.dev  ## Check ONNX exports, operators and architectures, beside peers; writes docs/onnx.md.
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -e '.[peers]'
	$(BIN)/python tests/matrix.py

science: $(VENV)/.dev  ## Remake the tables and figures of docs/science.md from the stored reports.
	$(BIN)/python tests/science.py

schema: $(VENV)/.dev  ## Write the JSON Schema of reports anew.
	$(BIN)/python -c "import json; from robustcheck.reporting.report import json_schema; print(json.dumps(json_schema(), indent=2))" > reports/report.schema.json

clean:  ## Remove the environment and all that tools left.
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache

$(BIN)/robustcheck: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -e .
	@touch $@

$(VENV)/.dev: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -e '.[dev]'
	@touch $@ $(BIN)/robustcheck
