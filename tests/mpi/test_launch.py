"""`mpirun -n K sideways train`, as a user types it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sideways.mpi.launch import ranks_started
from sideways.studies.mpirun import command_of
from tests.mpi.jobs import SHORT, parameters, same

SIDEWAYS = str(Path(sys.executable).with_name("sideways"))


def launched(ranks, *arguments, environment=os.environ):
    """Run `mpirun -n RANKS sideways ARGUMENTS` to its end."""
    command = [part for part in command_of(ranks) if part != sys.executable]
    return subprocess.run(
        [*command, SIDEWAYS, *arguments], text=True, capture_output=True, timeout=240, env=environment
    )


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The parameters of a run in one process, and the command that it was started with."""
    folder = tmp_path_factory.mktemp("runs")
    options = ["train", "waves-skip", *SHORT, "--runs", str(folder)]
    subprocess.run([SIDEWAYS, *options, "--name", "one"], check=True, capture_output=True)
    return parameters(folder / "one"), options


@pytest.mark.parametrize("threads", [{}, {"OPENBLAS_NUM_THREADS": "1"}], ids=["unset", "one thread"])
def test_under_mpirun_the_command_spreads_the_units_over_the_ranks(tmp_path, alone, threads):
    expected, options = alone
    variables = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    done = launched(2, *options, "--runs", str(tmp_path), "--name", "ranks", environment=variables | threads)
    assert done.returncode == 0, done.stderr
    assert "2 stage(s) × 1 replica(s)" in done.stdout
    assert same(parameters(tmp_path / "ranks"), expected)


def test_under_mpirun_the_help_lists_the_options_of_several_ranks():
    done = launched(2, "train", "--help")
    assert done.returncode == 0 and done.stdout.count("usage: ") == 1 and "--placement" in done.stdout


def test_other_commands_are_refused_under_mpirun():
    done = launched(2, "models")
    assert done.returncode == 2 and "mpirun starts `sideways train`" in done.stderr


@pytest.mark.parametrize(
    ("environment", "ranks"),
    [
        ({}, 1),
        ({"PMI_SIZE": "3", "PMI_RANK": "0"}, 3),
        ({"OMPI_COMM_WORLD_SIZE": "2", "PMIX_RANK": "1"}, 2),
        ({"PMIX_RANK": "0", "SLURM_STEP_NUM_TASKS": "8"}, 8),
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, 1),  # in the script of an sbatch job
        ({"PMI_SIZE": "many"}, 1),
    ],
)
def test_what_a_launcher_leaves_in_the_environment(monkeypatch, environment, ranks):
    for name in ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert ranks_started() == ranks
