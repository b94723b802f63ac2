"""Ranks that compute on a device: the same bits as one process with NumPy, and waiting only for messages to be sent.

With `--backend cupy` the ranks are compared with one process on the GPU, and CUDA-aware transport needs a CUDA-aware
MPI.
"""

import importlib.util
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from sideways.doctor import CUDA_AWARE, take
from sideways.studies.mpirun import command_of
from tests.mpi.jobs import run

HERE = Path(__file__).parent

pytestmark = pytest.mark.xdist_group("ranks")  # one job at a time: ranks wait by spinning


@pytest.fixture
def on_the_double(request):
    """Skip a test on other backends: it reads the double's clock."""
    if request.config.getoption("--backend") != "double":
        pytest.skip("reads the double's clock")


def can(mode, backend):
    """Whether messages can travel in this way here. Stand-ins for MPI and for NCCL take the arrays of the double."""
    if mode == "nccl" and backend == "cupy":
        return bool(importlib.util.find_spec("nvidia") and importlib.util.find_spec("nvidia.nccl"))
    return mode == "staged" or backend == "double" or take(CUDA_AWARE)[1].startswith("yes")


@pytest.mark.parametrize(
    ("rule", "ranks"), [*(("sideways", ranks) for ranks in (1, 2, 3, 4)), ("delayed", 2), ("delayed", 3)]
)
def test_random_networks_on_a_device_end_with_the_bits_of_numpy_on_any_number_of_ranks(request, ranks, rule):
    modes = [mode for mode in ("staged", "cuda-aware", "nccl") if can(mode, request.config.getoption("--backend"))]
    code, output, errors = run(ranks, str(HERE / "same_bits.py"), str(10 + ranks), "6", rule, *modes)
    assert (code, output.strip()) == (0, f"{6 * len(modes)} of {6 * len(modes)} agreed"), errors[-2000:]


@pytest.mark.parametrize("mode", ["staged", "cuda-aware", "nccl"])
@pytest.mark.parametrize("learn_every", ["sideways", "1", "2", "3", "9"])
def test_in_the_steady_state_a_rank_moves_frames_and_messages_alone_and_waits_only_for_what_it_sends_and_reads(
    on_the_double, mode, learn_every
):
    code, output, errors = run(3, str(HERE / "steady.py"), mode, learn_every)
    assert (code, sorted(output.split("\n"))) == (0, ["", "0: ok", "1: ok", "2: ok"]), output + errors


def test_a_run_over_ranks_and_replicas_on_a_device_is_numpys_to_the_last_bit(on_the_double, tmp_path):
    metrics = []
    for backend in ("numpy", "cupy"):
        options = ["waves-skip", "--clips", "3", "--evaluation-clips", "2", "--batch", "4", "--update-every", "1"]
        options += ["--backend", backend, "--runs", str(tmp_path), "--name", backend, "--replicas", "2"]
        code, output, errors = run(
            4, "-m", "sideways.mpi", *options, "--placement", "0-2,3-4", "--set", "task_options.size=8"
        )
        assert code == 0, errors
        assert len(re.findall(r"^\d +\S+ +\d+ +(CPU|GPU)", output, re.MULTILINE)) == 4
        shared = re.findall(r"warning: 2 ranks share the GPU 0000:(\d\d):00\.0 on ", errors)
        assert sorted(shared) == (["00", "01"] if backend == "cupy" else [])
        metrics.append((tmp_path / backend / "metrics.jsonl").read_bytes())
    assert metrics[0] == metrics[1]


def test_ranks_that_see_one_gpu_each_share_none(on_the_double, tmp_path):
    options = ["-m", "sideways.mpi", "waves-skip", "--clips", "1", "--evaluation-clips", "1", "--batch", "2"]
    options += ["--set", "task_options.size=8", "--backend", "cupy", "--runs", str(tmp_path)]
    mpirun, *flags, _, _, python = command_of(1)
    ranks = [["-n", "1", "env", f"CUDA_VISIBLE_DEVICES={gpu}", python, *options] for gpu in (0, 1)]
    done = subprocess.run([mpirun, *flags, *ranks[0], ":", *ranks[1]], text=True, capture_output=True, timeout=120)
    assert done.returncode == 0 and "warning" not in done.stderr, done.stderr
    assert re.findall(r"^\d +\S+ +\d+ +GPU (\S+)", done.stdout, re.MULTILINE) == ["0000:00:00.0", "0000:01:00.0"]


def test_sums_over_replicas_end_with_the_bits_of_numpy_whether_mpi_takes_device_arrays_or_not(on_the_double):
    code, output, errors = run(2, str(HERE / "sums.py"), "15", "8")
    assert (code, output.splitlines()) == (0, ["8 of 8 agreed"] * 2), errors[-2000:]


def test_a_run_by_nccl_is_numpys_to_the_last_bit_and_goes_on_from_a_checkpoint(on_the_double, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    options = ["-m", "sideways.mpi", "waves-skip", "--clips", "3", "--evaluation-clips", "2", "--batch", "4"]
    options += ["--replicas", "2", "--placement", "0-2,3-4", "--set", "task_options.size=8", "--runs", str(tmp_path)]
    options += ["--boundary", "stream", "--update-every", "1", "--checkpoint-every", "20"]
    for name, more in (("numpy", []), ("nccl", ["--backend", "cupy", "--transport", "nccl"])):
        code, output, errors = run(4, *options, *more, "--name", name)
        assert code == 0, errors
        assert ("GPU arrays travel from GPU to GPU by NCCL" in output) == (name == "nccl")
    results = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("numpy", "nccl")]
    assert results[0] == results[1]
    (tmp_path / "nccl" / "parameters.npz").unlink()
    checkpoint = sorted((tmp_path / "nccl" / "checkpoints").iterdir())[0]
    resume = ["--resume", str(checkpoint), "--transport", "nccl", "--replicas", "2", "--placement", "0-2,3-4"]
    code, _, errors = run(4, "-m", "sideways.mpi", *resume)
    assert code == 0, errors
    with np.load(tmp_path / "numpy" / "parameters.npz") as one, np.load(tmp_path / "nccl" / "parameters.npz") as other:
        assert one.files == other.files and all(np.array_equal(one[key], other[key]) for key in one.files)


def test_nccl_is_refused_without_a_gpu_for_each_rank(on_the_double, tmp_path, monkeypatch):
    options = ["-m", "sideways.mpi", "waves-skip", "--clips", "1", "--transport", "nccl", "--runs", str(tmp_path)]
    for devices, more, message in (
        ("0", ["--backend", "cupy"], "--transport nccl needs a GPU for each rank"),
        ("0,1", ["--backend", "numpy"], "NCCL joins GPUs: it goes with --backend cupy"),
    ):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", devices)
        code, _, errors = run(2, *options, *more)
        assert code == 2 and message in errors
