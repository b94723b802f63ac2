"""Nobody waits for ever: a rank that is stopped, cut off or stuck inside MPI ends the job, and is named."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sideways.mpi.cleanup import shared_memory
from sideways.training.checkpoint import find
from tests.mpi.jobs import alive, pids, run, start

pytestmark = pytest.mark.alone
PATIENCE = 5  # seconds
SECONDS = 30  # that the end of a job may take, on a busy machine
OPTIONS = ["waves-skip", "--batch", "2", "--evaluation-clips", "1", "--patience", str(PATIENCE)]
HOST = socket.gethostname()
WATCHED = """
import os, sys
if "SIDEWAYS_WATCHDOG" not in os.environ:
    from sideways.mpi.watchdog import guard
    guard(float(os.environ.get("START_UP", 60)))
    os.execv(sys.executable, [sys.executable, *sys.argv])
"""  # the first lines of a script that becomes a rank with a watchdog


def script(tmp_path, lines):
    """Write a script whose process is guarded by a watchdog. Returns its path."""
    (tmp_path / "script.py").write_text(WATCHED + lines)
    return str(tmp_path / "script.py")


def parent(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def ends(condition):
    """Wait until the condition holds, for some seconds at most. Returns whether it holds."""
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def messages(errors):
    """The messages of the job, without those of its launcher."""
    return [line for line in errors.splitlines() if line.startswith("sideways:")]


def training(tmp_path, ranks=2):
    """Start a job that trains until it is ended. Returns the job, the PIDs of ranks and of watchdogs, and the files."""
    job = start(ranks, "-m", "sideways.mpi", *OPTIONS, "--clips", "100000", "--checkpoint-every", "20",
                "--runs", str(tmp_path), "--name", "run")  # fmt: skip
    numbers = pids(job)
    while not list((tmp_path / "run").glob("checkpoints/step-*")):
        assert job.poll() is None, job.communicate()
        time.sleep(0.05)
    time.sleep(PATIENCE / 5)  # two beats: rank 0's watchdog has heard that all ranks train
    return job, numbers, [parent(pid) for pid in numbers], [path for pid in numbers for path in shared_memory(pid)]


@pytest.mark.parametrize("with_watchdog", [False, True], ids=["rank", "rank and watchdog"])
@pytest.mark.parametrize("victim", [0, 1])
def test_a_rank_that_is_stopped_ends_the_job_and_is_named(tmp_path, victim, with_watchdog):
    job, ranks, watchdogs, segments = training(tmp_path)
    for pid in [ranks[victim], watchdogs[victim]][: 1 + with_watchdog]:
        os.kill(pid, signal.SIGSTOP)
    _, errors = job.communicate(timeout=PATIENCE + SECONDS)
    assert job.returncode != 0
    assert len(messages(errors)) == 1, errors
    (message,) = messages(errors)
    reason = "nothing has been heard for" if with_watchdog else "has been stopped for"
    assert reason in message and "its checkpoints stand" in message
    assert re.search(rf"rank {victim} on {HOST} \(PID {ranks[victim]}\) \[tick \d+, ", message)
    assert ends(lambda: not any(map(alive, ranks + watchdogs)))
    assert find(tmp_path / "run").name.startswith("step-")
    assert ends(lambda: not any(Path(path).exists() for path in segments))


def test_a_killed_rank_leaves_no_shared_memory_behind(tmp_path):
    job, ranks, watchdogs, segments = training(tmp_path)
    os.kill(ranks[1], signal.SIGKILL)
    _, errors = job.communicate(timeout=SECONDS)
    assert len(messages(errors)) == 1 and f"(PID {ranks[1]}) was killed by signal 9" in errors
    assert ends(lambda: not any(map(alive, ranks + watchdogs)))
    assert ends(lambda: not any(Path(path).exists() for path in segments))


def test_a_long_computation_that_keeps_python_locked_ends_no_job(tmp_path):
    lines = f"""
import ctypes
import sideways.network as network
forward, calls = network.Unit.forward, [0]
def slow(self, *arguments, **options):
    calls[0] += self.name == "conv4"
    if calls[0] == 12:
        ctypes.PyDLL(None).sleep({2 * PATIENCE + 2})  # PyDLL keeps the lock of the interpreter
    return forward(self, *arguments, **options)
network.Unit.forward = slow
import runpy
runpy.run_module("sideways.mpi.rank", run_name="__main__")
"""
    arguments = [*OPTIONS, "--clips", "2", "--runs", str(tmp_path), "--placement", "0-1,2-4"]
    before = time.monotonic()
    code, _, errors = run(2, script(tmp_path, lines), *arguments)
    assert (code, messages(errors)) == (0, [])
    assert time.monotonic() - before > 2 * PATIENCE + 2


STUCK = f"""
import numpy
from sideways.mpi.status import Waiting, introduce
from sideways.mpi.world import RANK, WORLD
introduce(WORLD, {PATIENCE})
with Waiting("a message that nobody sends"):
    WORLD.Recv(numpy.empty(1), 1 - RANK, 7)
"""
LATE = """
import time
if any(os.environ.get(name) == "1" for name in ("PMI_RANK", "OMPI_COMM_WORLD_RANK")):
    time.sleep(100)
import sideways.mpi.world
"""


@pytest.mark.parametrize(
    ("lines", "place"), [(STUCK, "a message that nobody sends"), (LATE, "MPI to start")], ids=["receive", "start-up"]
)
def test_a_job_in_which_all_wait_inside_mpi_ends_and_says_where(tmp_path, monkeypatch, lines, place):
    monkeypatch.setenv("START_UP", str(PATIENCE if lines == LATE else SECONDS))
    code, _, errors = run(2, script(tmp_path, lines), timeout=PATIENCE + 2 * SECONDS)
    assert code != 0
    assert len(messages(errors)) == 1, errors
    (message,) = messages(errors)
    assert re.search(r"no rank has made progress for \d+ s: rank 0 on", message)
    assert message.count(f"waiting inside MPI for {place}") == (2 if lines == STUCK else 1)


def test_where_no_heartbeat_gets_through_the_job_goes_on_with_a_warning(tmp_path):
    lines = """
import sideways.mpi.status as status
status.addresses = lambda: []  # as if a firewall stood before every address
import runpy
runpy.run_module("sideways.mpi.rank", run_name="__main__")
"""
    arguments = [*OPTIONS, "--clips", "6", "--emulate-ms", "40", "--runs", str(tmp_path)]
    code, _, errors = run(2, script(tmp_path, lines), *arguments)
    assert code == 0
    assert len(messages(errors)) == 1, errors
    (message,) = messages(errors)
    assert re.search(rf"warning: no heartbeat has reached rank 0 .* from rank 1 on {HOST} \(PID \d+\)", message)


DEAF = """
import os, signal, time
from sideways.mpi.watchdog import guard
guard()
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(os.getpid(), flush=True)
time.sleep(100)
"""


@pytest.mark.parametrize(("first", "second"), [(signal.SIGINT, signal.SIGINT), (signal.SIGINT, signal.SIGTERM)])
def test_a_second_signal_ends_a_rank_that_ignores_signals(first, second):
    watchdog = subprocess.Popen([sys.executable, "-c", DEAF], text=True, stdout=subprocess.PIPE)
    rank = int(watchdog.stdout.readline())
    for number in (first, first):  # one Ctrl-C may come from the terminal and from the launcher
        watchdog.send_signal(number)
        time.sleep(0.05)
    time.sleep(1)
    assert watchdog.poll() is None and alive(rank)
    watchdog.send_signal(second)
    assert watchdog.wait(timeout=SECONDS) == 130
    assert ends(lambda: not alive(rank))


@pytest.mark.parametrize("seconds", ["0.5", "inf", "nan"])
def test_a_patience_that_cannot_be_is_refused(tmp_path, seconds):
    code, _, errors = run(1, "-m", "sideways.mpi", "waves-skip", "--patience", seconds, "--runs", str(tmp_path))
    assert code == 2 and messages(errors) == [f"sideways: --patience must be at least 1 second, not {seconds}"]
