# make demo    draws a data set, trains, evaluates and freezes: a tour in some minutes
# make test    runs all tests but the longest
# make test-long  runs those that take minutes: faults, random inputs, a soak
# make lint    checks style and format
# make bench   measures the training loop against the bare training step, and the ranking

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-long lint format bench clean

demo: .venv/demo-installed
	$(BIN)/python tools/demo.py

test: .venv/dev-installed
	$(BIN)/python -m pytest -m "not long" $(PYTEST_ARGS)

test-long: .venv/dev-installed
	$(BIN)/python -m pytest -m long $(PYTEST_ARGS)

lint: .venv/dev-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: .venv/dev-installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/demo-installed
	$(BIN)/python benchmarks/training_loop.py
	$(BIN)/python benchmarks/ranking.py

clean:
	rm -rf .venv output

.venv/bin/python:
	$(PYTHON) -m venv .venv

# A stamp per set of extras: another make finds the packages in place.
.venv/demo-installed: .venv/bin/python setup.py
	$(BIN)/python -m pip install --quiet --editable '.[tensorboard]'
	touch $@

.venv/dev-installed: .venv/bin/python setup.py
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@
