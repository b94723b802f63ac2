"""From the command line to a rank: has a launcher started this process, and if so, how does it become a rank?

Importing this module does not start MPI.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from sideways.mpi.status import adopt
from sideways.mpi.watchdog import PATIENCE, START_UP, guard

THREADS = "OPENBLAS_NUM_THREADS"
SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE")  # set by MPICH's mpirun and by Slurm's PMI; by Open MPI's mpirun
SLURM_PMIX = ("PMIX_RANK", "SLURM_STEP_NUM_TASKS")  # set by srun --mpi=pmix, which sets no size of its own


def ranks_started() -> int:
    """The number of processes that mpirun or srun has started this one with; 1 without a launcher."""
    sizes = [os.environ[name] for name in SIZES if name in os.environ]
    if not sizes and all(name in os.environ for name in SLURM_PMIX):
        sizes = [os.environ[SLURM_PMIX[1]]]
    return int(sizes[0]) if sizes and sizes[0].isdecimal() else 1


def patience_of(arguments: Sequence[str]) -> float:
    """The seconds of `--patience`; the default for a value that the rank will refuse."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("--patience", nargs="?")
    text = parser.parse_known_args(arguments)[0].patience
    try:
        return check_patience(float(text))
    except (TypeError, ValueError):
        return PATIENCE


def check_patience(seconds: float) -> float:
    """Return a usable patience. Raises `ValueError` for less than a second, and for infinity."""
    if not 1 <= seconds < math.inf:
        raise ValueError(seconds)
    return seconds


def start(arguments: Sequence[str]) -> NoReturn:
    """Become the watchdog of a new process, which is the rank and trains with these options of the command line."""
    guard(max(START_UP, 2 * patience_of(arguments)))  # forks before MPI starts; only the child goes on from here
    if THREADS not in os.environ:  # OpenBLAS has read it when NumPy was imported: only a fresh interpreter obeys
        os.environ[THREADS] = "1"  # equal bits, and one core for each rank
        os.execv(sys.executable, [sys.executable, "-m", "sideways.mpi.rank", *arguments])
    adopt()
    sys.argv[1:] = arguments
    from sideways.mpi.rank import run  # this import starts MPI

    run()
