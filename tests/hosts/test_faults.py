"""Faults over hosts: what is killed, stopped, unplugged, full or missing on one ends the job, or harms no bit."""

import os
import random
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

import sideways.errors
from sideways.commands.main import main
from sideways.data.videos.make import make
from sideways.training.checkpoint import find, listed, ticks_of
from tests.mpi.jobs import parameters, same

pytestmark = [pytest.mark.hosts, pytest.mark.usefixtures("undrawn")]
OPEN_MPI = "openmpi" in os.environ.get("MPI4PY_MPIABI", "")
PATIENCE = 4
EVERY = 20  # ticks from one checkpoint to the next
SECONDS = 40  # in which a job that trains must end, and all its processes with it, on a busy machine
START_UP = 60  # seconds that a rank waits for others to start
ENDLESS = ["waves-skip", "--batch", "2", "--clips", "100000", "--evaluation-clips", "1",
           "--checkpoint-every", str(EVERY), "--set", "keep_checkpoints=1000",
           "--set", "schedule.name=constant"]  # fmt: skip
LENGTH = 18  # ticks in a clip
DAEMONS = ("hydra_pmi_proxy", "prted")


def train(network, hosts, runs, *options, patience=PATIENCE):
    """Start a job of one rank on each of the first hosts."""
    options = [*options, "--patience", str(patience), "--runs", str(runs)]
    return network.start(hosts, hosts, "-m", "sideways", "train", *options)


def until(condition, job):
    """Wait until a condition holds. The job must go on meanwhile."""
    while not condition():
        assert job.poll() is None, job.communicate()
        time.sleep(0.02)


def ended(network, job, seconds=SECONDS):
    """Wait until the job has ended, and all its processes on all hosts. Returns its exit code and its errors."""
    _, errors = job.communicate(timeout=seconds)
    deadline = time.monotonic() + SECONDS
    while network.processes() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not network.processes()
    return job.returncode, errors


def works(host):
    """The PIDs of the watchdog of a host and of the rank that it has started."""
    commands = host.processes("-m sideways").items()
    found = [pid for pid, command in commands if os.path.basename(command.split()[0]).startswith("python")]
    return sorted(found, key=lambda pid: parent(pid) in found)  # PIDs themselves begin again at the system's largest


def parent(pid):
    """The PID, outside, of a process's parent."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def daemon(host):
    """The PID of the launcher's daemon on a host."""
    return max(pid for pid, command in host.processes().items() if os.path.basename(command.split()[0]) in DAEMONS)


SILENT = "sideways: nothing has been heard for"
FAULTS = {  # name → the fault on a host, and words that tell the user of it; the launcher has words of its own
    "rank killed": (lambda host: os.kill(works(host)[1], signal.SIGKILL), "host2"),
    "watchdog killed": (lambda host: os.kill(works(host)[0], signal.SIGKILL), ""),
    "rank stopped": (lambda host: os.kill(works(host)[1], signal.SIGSTOP), "has been stopped for"),
    "watchdog stopped": (lambda host: os.kill(works(host)[0], signal.SIGSTOP), SILENT),
    "cable pulled": (lambda host: host.unplug(), SILENT),
    "daemon killed": (lambda host: os.kill(daemon(host), signal.SIGKILL), "host2"),
}


def test_a_watchdog_that_is_stopped_where_no_other_runs_ends_with_its_rank_and_the_launcher(network, tmp_path):
    job = train(network, 2, tmp_path, *ENDLESS, "--name", "run")
    until(lambda: listed(tmp_path / "run"), job)
    time.sleep(2)  # rank 1's watchdog has heard of rank 0
    os.kill(works(network.hosts[0])[0], signal.SIGSTOP)
    code, errors = ended(network, job)
    assert code and "rank 0 on host1 (PID " in errors


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_on_the_second_host_ends_the_job_on_both_and_its_checkpoints_stand(network, tmp_path, fault):
    job = train(network, 2, tmp_path, *ENDLESS, "--name", "run")
    until(lambda: listed(tmp_path / "run"), job)
    time.sleep(2)  # rank 0's watchdog has heard of both ranks
    strike, words = FAULTS[fault]
    strike(network.hosts[1])
    code, errors = ended(network, job)
    assert code or (OPEN_MPI and fault == "daemon killed")  # Open MPI's mpirun ends with 0 then
    assert words in errors
    assert "on host2 (PID " in errors or not words.startswith("sideways")
    assert ticks_of(find(tmp_path / "run")) % EVERY == 0


def test_a_cable_that_is_put_back_within_patience_changes_no_bit(network, tmp_path):
    options = ["waves-skip", "--batch", "2", "--clips", "60", "--evaluation-clips", "1", "--checkpoint-every", "20"]
    options += ["--runs", str(tmp_path)]
    assert main(["train", *options, "--name", "alone"]) == 0
    job = train(network, 2, tmp_path, *options, "--name", "hosts", patience=30)
    until(lambda: listed(tmp_path / "hosts"), job)
    network.hosts[1].unplug()
    time.sleep(3)
    before = len(listed(tmp_path / "hosts"))
    time.sleep(1)
    assert len(listed(tmp_path / "hosts")) == before  # no tick without messages
    network.hosts[1].plug()
    code, errors = ended(network, job)
    assert code == 0 and "sideways: " not in errors, errors
    assert same(parameters(tmp_path / "alone"), parameters(tmp_path / "hosts"))


def test_a_full_disk_ends_the_job_where_the_run_directory_lies_and_does_no_harm_elsewhere(network, tmp_path):
    first, second, _ = network.hosts
    for host in (first, second):
        host.hide(tmp_path, megabytes=2)
    second.call("sh", "-c", f"cat /dev/zero > {tmp_path}/full || true")
    job = train(network, 2, tmp_path, *ENDLESS, "--name", "run")
    until(lambda: listed(first.seen(tmp_path / "run")), job)
    first.call("sh", "-c", f"cat /dev/zero > {tmp_path}/full || true")
    code, errors = ended(network, job)
    assert code == 1
    assert f"sideways: cannot write the checkpoint {tmp_path}/run/checkpoints/step-" in errors
    assert "No space left on device" in errors and "Traceback" not in errors
    assert find(first.seen(tmp_path / "run"))


def test_a_video_or_a_version_that_one_host_lacks_is_named_before_training(network, tmp_path):
    (tmp_path / "empty").mkdir()
    make("ucf101", tmp_path / "ucf", groups=3, each=1)
    second = network.hosts[1]
    options = ["videos-small-skip", "--data", f"ucf101:{tmp_path}/ucf", "--clips", "2", "--name", "run"]
    lost = sorted((tmp_path / "ucf").glob("**/*.avi"))[0].parent
    second.hide(lost)
    code, errors = ended(network, train(network, 2, tmp_path, *options))
    assert code == 2 and "the hosts have different videos: " in errors and "rank 1 on host2 lacks " in errors
    second.call("umount", lost)
    source = Path(sideways.errors.__file__)
    (tmp_path / "errors.py").write_text(f"{source.read_text()}\n")
    second.call("mount", "--bind", tmp_path / "errors.py", source)
    code, errors = ended(network, train(network, 2, tmp_path, *options))
    second.call("umount", source)
    assert code == 2 and "for rank 1 on host2" in errors, errors
    assert not (tmp_path / "run").exists()


# Twenty random faults ------------------------------------------------------------------------------------------------


HARMLESS = ("nsenter", "ssh ")  # once a daemon runs, MPICH's job goes on without the ssh that has started it


def random_fault(network, draw, hosts):
    """Let something happen to a job that must end it. Returns a description."""
    kind, host = draw.choice(["kill", "stop", "unplug", "blink", "interrupt", "terminate"]), draw.choice(hosts)
    if kind == "kill":
        processes = {pid: words for pid, words in network.processes().items() if not words.startswith(HARMLESS)}
        victim = draw.choice(sorted(processes))
        os.kill(victim, signal.SIGKILL)
        return f"killed: {processes[victim][:60]}"
    if kind == "stop":
        victim = draw.choice(works(host) or [network.launcher])
        os.kill(victim, signal.SIGSTOP)
        return f"stopped: {victim} on {host.name}"
    if kind in ("unplug", "blink"):
        host.unplug()
        if kind == "unplug":
            return f"unplugged: {host.name}"
        time.sleep(PATIENCE / 4)
        host.plug()
    os.kill(network.launcher, signal.SIGTERM if kind == "terminate" else signal.SIGINT)
    return f"{kind} at mpirun"


def test_twenty_random_faults_at_random_moments_leave_no_process_and_change_no_bit(network, tmp_path):
    draw, run = random.Random(int(os.environ.get("FAULT_SEED", "14"))), tmp_path / "run"
    for number in range(int(os.environ.get("FAULTS", "20"))):
        strike_once(network, run, draw, in_start_up=number % 5 == 0)
    newest = [path for path in listed(run) if ticks_of(path) % EVERY == 0][-1]
    clips = ticks_of(newest) // LENGTH + 1
    assert main(["train", *ENDLESS, "--runs", str(tmp_path), "--name", "alone", "--clips", str(clips)]) == 0
    for path in newest.glob("*.npz"):
        with np.load(path) as one, np.load(tmp_path / "alone" / "checkpoints" / newest.name / path.name) as other:
            assert same(dict(one), dict(other)), path


def strike_once(network, run, draw, in_start_up):
    """Begin a run over two or three hosts, or go on with it, until a fault ends it."""
    hosts, known = network.hosts[: draw.choice([2, 3])], len(listed(run))
    if not known:
        shutil.rmtree(run, ignore_errors=True)  # the job before ended before its first checkpoint
    options = ["--resume", str(run)] if known else [*ENDLESS, "--name", run.name]
    job = train(network, len(hosts), run.parent, *options)
    until(lambda: works(hosts[-1]) if in_start_up else len(listed(run)) > known, job)
    time.sleep(draw.uniform(0, 2))
    print(f"{len(hosts)} hosts, {random_fault(network, draw, hosts)}:", flush=True)
    code, errors = ended(network, job, START_UP * in_start_up + SECONDS)
    print(f"code {code}\n{errors}")
    assert code or OPEN_MPI
    network.plug()
