"""Jobs under mpirun, and how their results are compared: shared by the tests of several ranks."""

import json
import os
import re
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from sideways.studies.mpirun import command_of

UNDRAWN = str(Path(__file__).parent / "undrawn.py")  # as `-m sideways.mpi`, without plots
SHORT = ["--clips", "3", "--evaluation-clips", "2", "--batch", "16"]  # a batch so large that conv4 uses Winograd


def start(ranks, *arguments):
    """Start `python ARGUMENTS` under mpirun, in the clone. Returns the process."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(
        command_of(ranks, *arguments), env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def run(ranks, *arguments, timeout=240):
    """Run a job to its end. Returns (exit code, output, errors)."""
    job = start(ranks, *arguments)
    output, errors = job.communicate(timeout=timeout)
    return job.returncode, output, errors


def train(ranks, tmp_path, name, *arguments):
    """Train on the recipe waves-skip over ranks, without plots, in the run directory tmp_path/name."""
    return run(ranks, UNDRAWN, "waves-skip", *SHORT, "--runs", str(tmp_path), "--name", name, *arguments)


def run_all(ranks, *lines, codes=0):
    """Run several command lines of `sideways.mpi` in one job. Returns (output, errors) of each; all must end with this
    exit code on every rank."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lines.json"
        path.write_text(json.dumps(lines))
        code, _, errors = run(ranks, str(Path(__file__).parent / "commands.py"), str(path), timeout=400)
        assert code == 0, errors
        assert "persistent request" not in errors
        results = json.loads(path.read_text())
    for line, (ended, _, complaints) in zip(lines, results, strict=True):
        assert ended == [codes] * ranks, (line, complaints)
    return [(output, complaints) for _, output, complaints in results]


def parameters(directory):
    """The arrays of a run's parameters.npz."""
    with np.load(directory / "parameters.npz") as arrays:
        return dict(arrays)


def same(one, other):
    """Whether two dictionaries of arrays are equal to the last bit."""
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


def pids(job):
    """The ranks' PIDs, read from the table that rank 0 prints."""
    numbers = []
    while line := job.stdout.readline():
        if match := re.match(r"\d+ +\S+ +(\d+) +CPU", line):
            numbers.append(int(match[1]))
        if "this placement allows" in line:
            return numbers
    raise AssertionError(job.stderr.read())


def alive(pid):
    """Whether a process runs. A zombie, which nobody has waited for yet, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
