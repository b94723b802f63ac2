"""Commands on runs that were trained on a device: on the device, and on a machine without one."""

import json

import numpy as np
import pytest

import sideways as sw
from sideways.backend import is_on_device
from sideways.commands.main import main
from sideways.data import write_video
from sideways.studies.claims import aligned
from sideways.training.checkpoint import find, listed, load_trained
from tests.test_doctor import CLONE, examined, line_of

SMALL = ["--clips", "3", "--batch", "2", "--evaluation-clips", "2", "--set", "model_options.width=4"]
SMALL += ["--set", "task_options.size=12", "--checkpoint-every", "20", "--backend", "cupy"]
BACKENDS = ("numpy", "cupy")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on the double."""
    folder = tmp_path_factory.mktemp("runs")
    assert main(["train", "waves-skip", *SMALL, "--runs", str(folder), "--name", "run"]) == 0
    return folder / "run"


def test_a_run_on_a_device_tells_the_memory_that_its_activations_take_there(run, tmp_path):
    options = [*SMALL[:-1], "numpy", "--runs", str(tmp_path), "--name", "numpy"]
    assert main(["train", "waves-skip", *options]) == 0
    results = [json.loads((folder / "results.json").read_text()) for folder in (run, tmp_path / "numpy")]
    on_device, on_host = (result["activation_megabytes"] for result in results)
    assert 0.7 * on_host < on_device < 1.3 * on_host  # the host counts Python's objects too


def test_a_run_is_evaluated_where_one_wishes(run, tmp_path):
    for backend in BACKENDS:
        assert main(["evaluate", str(run), "--backend", backend, "--out", str(tmp_path / backend)]) == 0
    results = [json.loads((tmp_path / backend / "evaluation.json").read_text()) for backend in BACKENDS]
    result = json.loads((run / "results.json").read_text())
    for other in results:
        assert (other["loss"], other["accuracy"]) == (result["loss"], result["accuracy"])


def test_a_video_is_predicted_where_one_wishes(run, tmp_path):
    write_video(tmp_path / "film.mp4", np.random.default_rng(0).integers(0, 256, (30, 24, 24, 3), np.uint8))
    tables = []
    for backend in BACKENDS:
        arguments = ["predict", str(run), str(tmp_path / "film.mp4"), "--out", str(tmp_path / backend)]
        assert main([*arguments, "--backend", backend]) == 0
        tables.append((tmp_path / backend / "probabilities.csv").read_text())
    assert tables[0] == tables[1]


def test_parameters_are_exported_without_a_device(run, tmp_path, monkeypatch):
    monkeypatch.setattr("sideways.backend.arrays._load_cupy", lambda: pytest.fail("a device is asked for"))
    assert main(["export", str(run), str(tmp_path / "all.npz")]) == 0
    with np.load(run / "parameters.npz") as one, np.load(tmp_path / "all.npz") as other:
        assert one.files == other.files and all(np.array_equal(one[key], other[key]) for key in one.files)


def test_a_run_goes_on_where_one_wishes_to_the_same_bits(run):
    with np.load(run / "parameters.npz") as arrays:
        expected = dict(arrays)
    for backend in BACKENDS:
        (run / "parameters.npz").unlink()
        assert main(["train", "--resume", str(listed(run)[0]), "--backend", backend]) == 0
        with np.load(run / "parameters.npz") as arrays:
            assert all(np.array_equal(arrays[key], array) for key, array in expected.items())


def test_claims_measure_the_networks_of_runs_on_the_device(run):
    sw.use_backend("numpy")
    trained = load_trained(find(run))
    assert all(is_on_device(array) for unit in trained.network.units.values() for array in unit.parameters.values())
    clips = range(3, 5)
    ((means, _),) = aligned.measure(trained.config, trained.network, clips)
    sw.use_backend("numpy")
    at_home = load_trained(find(run), "numpy")
    assert aligned.measure(at_home.config, at_home.network, clips)[0][0] == means


def test_the_doctor_names_gpus_and_the_mpi_with_memory_and_what_follows_from_them(tmp_path):
    mpi = "class MPI:\n  def Get_library_version(): return 'An MPI 1.0'\n"
    code, lines = examined(tmp_path, {"mpi4py": f"__version__ = '4'\n{mpi}"}, str(CLONE / "tests" / "double" / "path"))
    assert code == 0
    assert "double of a GPU, number 0, 3.2 GB free of 4.3 GB" in line_of(lines, "GPUs")
    assert any("double of a GPU, number 1" in line for line in lines)
    assert any("cupy (with --backend cupy): works, a tick was trained" in line for line in lines)
    assert line_of(lines, "mpi4py").endswith("4 on An MPI 1.0") and "no (" in line_of(lines, "CUDA-aware MPI")
    assert "through pinned host memory" in line_of(lines, "GPU messages")
