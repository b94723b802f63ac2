"""Settings of all tests: the backend, one BLAS thread, and for every property the same examples in every run.

`pytest` computes with NumPy, `pytest --backend double` with a double of CuPy that needs no GPU (see `tests/double`),
`pytest --backend cupy` on the GPU, or over a stand-in for one (`make test-cupy`). The latter two run only the tests of
code that computes: layers, rules, predicted frames, ranks. Tolerances do not depend on the backend: tests that ask for
equality compare the device with itself, and tests that compare the device with NumPy allow 1e-12 to 1e-9 in float64,
since cuBLAS adds in another order.
"""

import contextlib
import importlib
import os
import pkgutil
import signal
import sys
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings

HERE = Path(__file__).parent
COMPUTES = (  # tests that every backend runs
    "backend", "layers", "network", "rules", "mpi/test_device.py", "test_losses_and_optimizers.py", "test_models.py",
    "training/test_frames_ahead.py",
)  # fmt: skip
STANDIN = "STANDIN_FLAGS" in os.environ  # the real CuPy over a stand-in: see `tests/standin`
DOUBLE = "double"  # tests of the double itself, and tests that read its clock
EXAMPLES = {"numpy": 100, "double": 10, "cupy": 20}  # of each property; the double is about five times slower


def pytest_addoption(parser):
    parser.addoption("--backend", choices=EXAMPLES, default="numpy", help="what to compute with (default: numpy)")


def pytest_configure(config):
    backend = config.getoption("--backend")
    settings.register_profile(
        "fixed",
        max_examples=5 if STANDIN else EXAMPLES[backend],
        derandomize=True,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )
    settings.load_profile("fixed")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background of a shell would ignore Ctrl-C
    if backend == "double":
        path = str(HERE / "double" / "path")
        sys.path.insert(0, path)
        os.environ["PYTHONPATH"] = os.pathsep.join([path, os.environ.get("PYTHONPATH", "")])
    if backend != "numpy":
        os.environ["SIDEWAYS_BACKEND"] = "cupy"
        os.environ["SIDEWAYS_AS_ON_DEVICE"] = "1"  # the host takes the device's algorithms, and gets the same bits


def pytest_collection_finish():
    """Import all modules. Hypothesis draws some numbers from the constants in imported modules, so that the examples
    would otherwise depend on the order of the tests. The modules of ranks would start MPI, and stay out; so do modules
    of packages that are not installed, as on a machine that only computes."""
    import sideways

    for module in pkgutil.walk_packages(sideways.__path__, "sideways."):
        if not module.name.endswith("__main__") and "torch" not in module.name and ".mpi" not in module.name:
            with contextlib.suppress(ModuleNotFoundError):
                importlib.import_module(module.name)


def pytest_ignore_collect(collection_path, config):
    """Ignore tests that need extra packages, unless they are asked for (`pytest -m peer`, …); and with `--backend`
    ignore tests of code that computes nothing."""
    name, marks = collection_path.name, config.option.markexpr
    if name in ("peer", "browser", "docs", "wheel", "hosts") and (name not in marks or f"not {name}" in marks):
        return True
    path = collection_path.relative_to(HERE).as_posix() if collection_path != HERE else ""
    backend = config.getoption("--backend")
    if backend == "numpy":
        return True if path in (DOUBLE, "mpi/test_device.py") else None
    chosen = (*COMPUTES, DOUBLE) if backend == "double" else COMPUTES
    folders = ("", "mpi", "training")  # some of their files are chosen
    return None if path in folders or any(path == p or path.startswith(f"{p}/") for p in chosen) else True


@pytest.fixture(autouse=True)
def nothing_goes_wrong_unseen(request):
    """Fail a test on the double for mistakes that the double noticed where it could raise no error."""
    yield
    if request.config.getoption("--backend") == "double":
        from double.clock import clock

        clock.finish()


@pytest.fixture
def command(tmp_path, capsys, monkeypatch):
    """A function that runs a command in an empty folder, and returns (exit code, output, errors)."""
    from sideways.commands.main import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:  # argparse
            code = stop.code
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def undrawn(monkeypatch):
    """Let runs draw no plots, which would take most of the time of short runs. Other tests look at plots."""
    for name in ("run.plot_run", "run.plot_confusion", "report.frames_ahead.plot_prediction"):
        monkeypatch.setattr(f"sideways.training.{name}", lambda *arguments, **options: None)
