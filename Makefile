# make demo    draws a data set, trains, evaluates and freezes: a tour in some minutes
# make test    runs all tests but the longest
# make test-oldest  runs the tests of TF-Slim on the oldest TensorFlow that is supported
# make test-long  runs those that take minutes: faults, random inputs, a soak
# make lint    checks style and format
# make bench   measures training, encoding, input and ranking against PyTorch, ONNX Runtime and the
#              original's way; share of the machine's peak, memory, accuracy: about an hour;
#              BENCH_ARGS="--group input" does a part
# make test-bench  tests that the benchmarks compare the same work, and that they run

PYTHON ?= python3
BIN := .venv/bin
OLDEST := .venv-oldest

.PHONY: demo test test-oldest test-long test-bench lint format bench clean

demo: .venv/demo-installed
	$(BIN)/python tools/demo.py

test: .venv/dev-installed
	$(BIN)/python -m pytest -m "not long" $(PYTEST_ARGS)

test-oldest: $(OLDEST)/installed
	$(OLDEST)/bin/python -m pytest tests/runtime $(PYTEST_ARGS)

test-long: .venv/dev-installed
	$(BIN)/python -m pytest -m long $(PYTEST_ARGS)

lint: .venv/dev-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: .venv/dev-installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/bench-installed
	$(BIN)/python benchmarks/run.py $(BENCH_ARGS)
	$(BIN)/python benchmarks/ranking.py

test-bench: .venv/dev-installed .venv/bench-installed
	$(BIN)/python -m pytest tests/whole/test_benchmarks.py $(PYTEST_ARGS)

clean:
	rm -rf .venv $(OLDEST) output

.venv/bin/python:
	$(PYTHON) -m venv .venv

# A stamp per set of extras: another make finds the packages in place.
.venv/demo-installed: .venv/bin/python setup.py pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[tensorboard]'
	touch $@

.venv/dev-installed: .venv/bin/python setup.py pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

$(OLDEST)/installed: setup.py
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --editable '.[dev]' \
		'tensorflow==2.16.*' 'tf-keras==2.16.*' 'numpy<2' 'opencv-python<4.12'
	touch $@

.venv/bench-installed: .venv/bin/python setup.py pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	touch $@
