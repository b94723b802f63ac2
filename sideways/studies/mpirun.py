"""Start modules of `sideways/mpi/` under mpirun, for the demo, the benchmarks and the check of a site."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sideways.errors import InputError

Processes = list[tuple[int, str]]  # PID, and the time of its start


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


def command_of(ranks: int, *arguments: str, hosts: Sequence[str] = ()) -> list[str]:
    """The command `mpirun -n RANKS python ARGUMENTS`: this Python, and the mpirun beside it, else the first on PATH.

    hosts: start the ranks there, in equal shares, by ssh; none: on this machine. Raises `InputError` if there is no
    mpirun.
    """
    program = shutil.which(
        "mpirun", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    )
    if program is None:
        raise InputError("there is no mpirun: pip install 'sideways[mpi]' brings one")
    return [program, *_flags(program, ranks, hosts), "-n", str(ranks), sys.executable, *arguments]


def _flags(program: str, ranks: int, hosts: Sequence[str]) -> list[str]:
    """The flags of the hosts, and those without which Open MPI refuses to run as root or with more ranks than cores."""
    version = subprocess.run([program, "--version"], text=True, capture_output=True).stdout
    share = -(-ranks // max(1, len(hosts)))  # ranks on each host, rounded up
    if "Open MPI" in version or "OpenRTE" in version:
        listed = ["--host", ",".join(f"{host}:{share}" for host in hosts)] if hosts else []
        return ["--allow-run-as-root", "--oversubscribe", *listed]
    return ["-launcher", "ssh", "-hosts", ",".join(hosts), "-ppn", str(share)] if hosts else []


def srun_of(ranks: int, *arguments: str, hosts: Sequence[str] = ()) -> list[str]:
    """The command `srun -n RANKS python ARGUMENTS`, for use inside an allocation of Slurm."""
    listed = [f"--nodelist={','.join(hosts)}"] if hosts else []
    return ["srun", "-n", str(ranks), *listed, sys.executable, *arguments]


# Jobs with a time limit -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ended:
    """The end of a job: its exit code (None: it was killed at its time limit), its output, its errors, and its time."""

    code: int | None
    output: str
    errors: str
    seconds: float


def run_within(limit: float, command: Sequence[str], environment: dict[str, str]) -> Ended:
    """Run a job to its end, or kill all its processes on this machine after `limit` seconds."""
    start = time.monotonic()
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:  # a pipe would hang with its writers
        job = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, start_new_session=True
        )  # a session without a terminal: ssh fails instead of asking for a password
        try:
            code: int | None = job.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(job)  # also after Ctrl-C
        output.seek(0)
        errors.seek(0)
        out, err = (file.read().decode(errors="replace") for file in (output, errors))
        return Ended(code, out, err, time.monotonic() - start)


def _end(job: subprocess.Popen[bytes]) -> None:
    """End a job that still runs: SIGTERM to the launcher, which ends its ranks; SIGKILL to those that are left."""
    if job.poll() is not None:
        return
    processes = [(pid, started) for pid, started in ((job.pid, _status(job.pid)[1]), *_below(job.pid)) if started]
    job.terminate()
    for pid, _ in _left(processes, seconds=3.0):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    _left(processes, seconds=3.0)
    job.wait()


def _left(processes: Processes, seconds: float) -> Processes:
    """Wait until these processes have ended, for so many seconds at most. Returns those that still run."""
    deadline = time.monotonic() + seconds
    while left := [(pid, started) for pid, started in processes if _status(pid)[1] == started]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    return left


def _below(pid: int) -> Processes:
    """The processes that a process has started, directly or not, as (PID, time of its start)."""
    everyone = {int(path.name): _status(int(path.name)) for path in Path("/proc").glob("[0-9]*")}
    parents, found = {pid}, list[tuple[int, str]]()
    while children := {child for child, (parent, _) in everyone.items() if parent in parents}:
        found += [(child, everyone[child][1]) for child in children]
        parents = children
    return found


def _status(pid: int) -> tuple[int, str]:
    """The parent of a process and the time of its start, "" if it has ended or there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return -1, ""
    return int(fields[1]), fields[19] if fields[0] != "Z" else ""
