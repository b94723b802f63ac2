"""Settings of all tests: the backend, one BLAS thread, and the same examples of every property in every run.

`pytest` computes with NumPy, `pytest --backend double` with a double of CuPy that needs no GPU (see `tests/double`),
`pytest --backend cupy` on the GPU. These two run what computes: the layers, the rules, the training loop, the ranks.
On a GPU tolerances are those that NumPy has: tests that ask for equality compare the device with itself, and those that
compare it with NumPy allow 1e-12 to 1e-9 of float64, since cuBLAS adds in other orders.
"""

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
COMPUTES = (
    "backend", "layers", "network", "rules", "mpi/test_device.py", "test_losses_and_optimizers.py", "test_models.py",
    "training/test_frames_ahead.py",
)  # fmt: skip
DOUBLE = "double"  # the tests of the double itself, and those that ask its clock
EXAMPLES = {"numpy": 100, "double": 20, "cupy": 20}  # of each property: the double takes some five times as long


def pytest_addoption(parser):
    parser.addoption("--backend", choices=EXAMPLES, default="numpy", help="what to compute with (default: numpy)")


def pytest_configure(config):
    backend = config.getoption("--backend")
    settings.register_profile(
        "fixed",
        max_examples=EXAMPLES[backend],
        derandomize=True,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )
    settings.load_profile("fixed")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which background jobs of a shell ignore
    if backend == "double":
        path = str(HERE / "double" / "path")
        sys.path.insert(0, path)
        os.environ["PYTHONPATH"] = os.pathsep.join([path, os.environ.get("PYTHONPATH", "")])
    if backend != "numpy":
        os.environ["SIDEWAYS_BACKEND"] = "cupy"


def pytest_collection_finish():
    """Hypothesis draws some numbers from the modules that are imported: here all, or the order of tests would count."""
    import sideways

    for module in pkgutil.walk_packages(sideways.__path__, "sideways."):
        if not module.name.endswith("__main__") and "torch" not in module.name:
            importlib.import_module(module.name)


def pytest_ignore_collect(collection_path, config):
    """What needs more than the rest is not even read unless it is asked for: pytest -m peer, …; what only describes,
    decodes or draws has no part in `--backend`."""
    name, asked = collection_path.name, config.option.markexpr
    if name in ("peer", "browser", "docs") and (name not in asked or f"not {name}" in asked):
        return True
    place = collection_path.relative_to(HERE).as_posix() if collection_path != HERE else ""
    backend = config.getoption("--backend")
    if backend == "numpy":
        return True if place in (DOUBLE, "mpi/test_device.py") else None
    chosen = (*COMPUTES, DOUBLE) if backend == "double" else COMPUTES
    folders = ("", "mpi", "training")  # that hold some of what computes
    return None if place in folders or any(place == p or place.startswith(f"{p}/") for p in chosen) else True


@pytest.fixture(autouse=True)
def nothing_goes_wrong_unseen(request):
    """With the double: what it finds where it can raise no error is an error of the test."""
    yield
    if request.config.getoption("--backend") == "double":
        from double.clock import clock

        clock.finish()


@pytest.fixture
def command(tmp_path, capsys, monkeypatch):
    """Run a command in an empty folder: (exit code, what it printed, what it printed as errors)."""
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
    """Runs leave their pictures out, which take most of the time of a run so short; other tests look at these."""
    for name in ("run.plot_run", "run.plot_confusion", "report.frames_ahead.plot_prediction"):
        monkeypatch.setattr(f"sideways.training.{name}", lambda *arguments, **options: None)
