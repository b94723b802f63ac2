"""Start modules of `sideways/mpi/` under mpirun, for the demo and the benchmarks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from sideways.errors import InputError


def mpirun(ranks: int, module: str, arguments: Sequence[str], quiet: bool = False) -> str:
    """Run `python -m module arguments` on this many ranks of this machine, and return what it prints.

    quiet: show the job's error output only in the error message, not while the job runs. Raises `InputError` if there
    is no mpirun, and if the job fails.
    """
    command = command_of(ranks, "-m", module, *arguments)
    environment = {"OPENBLAS_NUM_THREADS": "1"} | os.environ
    job = subprocess.run(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE if quiet else None
    )
    if job.returncode:
        raise InputError(f"mpirun -n {ranks} python -m {module} failed (exit code {job.returncode}) {job.stderr or ''}")
    return job.stdout


def command_of(ranks: int, *arguments: str) -> list[str]:
    """The command `mpirun -n RANKS python ARGUMENTS`: this Python, and the mpirun beside it, else the first on PATH."""
    program = shutil.which(
        "mpirun", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    )
    if program is None:
        raise InputError("there is no mpirun: pip install 'sideways[mpi]' brings one")
    return [program, *_flags(program), "-n", str(ranks), sys.executable, *arguments]


def _flags(program: str) -> list[str]:
    """The flags without which Open MPI refuses to run as root or with more ranks than cores; MPICH needs none."""
    version = subprocess.run([program, "--version"], text=True, capture_output=True).stdout
    return ["--allow-run-as-root", "--oversubscribe"] if "Open MPI" in version or "OpenRTE" in version else []
