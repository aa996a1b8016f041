# make demo    draws a data set, trains, evaluates and freezes: a tour in some minutes
# make test    runs all tests but the longest, and prints which lines they leave out
# make test-oldest  runs the fast tests on the oldest packages that are supported, and those of TF-Slim
# make test-long  runs those that take minutes: faults, random inputs, a soak
# make lint    checks style, format, types and spelling
# make docs    builds pages from docs/ and the docstrings: docs/_build/html/index.html
# make bench   measures training, encoding, input and ranking against PyTorch, ONNX Runtime and the
#              original's way; share of the machine's peak, memory, accuracy: about an hour;
#              BENCH_ARGS="--group input" does a part
# make bench-gpu  the same on one NVIDIA GPU, with the packages that are installed: PYTHON=python3
# make test-bench  tests that the benchmarks compare the same work, and that they run

PYTHON ?= python3
BIN := .venv/bin
OLDEST := .venv-oldest
# Two processes, each with whole files of tests, so that tests share what they have trained. If one
# of them ends, its test is named, and all end: otherwise pytest-xdist waits for ever.
PYTEST := -m pytest -n 2 --dist loadfile --max-worker-restart=0
# Costs a few percent of the time, where coverage.py, before Python 3.12, costs a third.
COVERAGE := -m slipcover --source deep_reid,datasets --skip-covered

.PHONY: demo test test-oldest test-long test-bench lint format docs bench bench-gpu clean

demo: .venv/demo-installed
	$(BIN)/python tools/demo.py

test: .venv/dev-installed
	$(BIN)/python $(COVERAGE) $(PYTEST) -m "not long" $(PYTEST_ARGS)

test-oldest: $(OLDEST)/installed
	$(OLDEST)/bin/python $(PYTEST) -m "not slow and not long" $(PYTEST_ARGS)
	$(OLDEST)/bin/python -m pytest tests/runtime -m slow $(PYTEST_ARGS)

test-long: .venv/dev-installed
	$(BIN)/python $(PYTEST) -m long $(PYTEST_ARGS)

lint: .venv/dev-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

format: .venv/dev-installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/docs-installed
	rm -rf docs/_build/api  # pages of modules that are gone
	$(BIN)/python -m sphinx -W --keep-going -q -d docs/_build/doctrees docs docs/_build/html

bench: .venv/bench-installed
	$(BIN)/python benchmarks/run.py $(BENCH_ARGS)
	$(BIN)/python benchmarks/ranking.py
	$(BIN)/python benchmarks/scaling.py

# Installs nothing: builds of TensorFlow and PyTorch for GPUs are chosen by hand.
bench-gpu:
	$(PYTHON) benchmarks/run.py --gpu $(BENCH_ARGS)

test-bench: .venv/dev-installed .venv/bench-installed
	$(BIN)/python -m pytest tests/whole/test_benchmarks.py $(PYTEST_ARGS)

clean:
	rm -rf .venv $(OLDEST) output docs/_build

.venv/bin/python:
	$(PYTHON) -m venv .venv

# A stamp per set of extras: another make finds the packages in place.
.venv/demo-installed: .venv/bin/python setup.py pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[tensorboard]'
	touch $@

.venv/dev-installed: .venv/bin/python setup.py pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[dev,index,openvino,track]'
	touch $@

.venv/docs-installed: .venv/bin/python setup.py pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@

$(OLDEST)/installed: setup.py pyproject.toml constraints-oldest.txt
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --constraint constraints-oldest.txt --editable '.[dev]'
	touch $@

.venv/bench-installed: .venv/bin/python setup.py pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	touch $@
