"""Runs over two and three hosts end with the bits of one process, over TCP, whatever each host has on its disk."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import sideways.mpi
from sideways.commands.main import main
from sideways.data import shipped_clips
from sideways.data.videos.make import make
from tests.mpi import jobs
from tests.mpi.jobs import parameters, same

pytestmark = [pytest.mark.hosts, pytest.mark.usefixtures("undrawn")]
OPEN_MPI = "openmpi" in os.environ.get("MPI4PY_MPIABI", "")
TRAIN = ["-m", "sideways", "train"]
WAVES = ["waves-skip", "--clips", "4", "--evaluation-clips", "2", "--batch", "4"]
STREAM = ["--boundary", "stream", "--update-every", "4", "--checkpoint-every", "25"]


def alone(*options):
    """Train in this process."""
    assert main(["train", *options, "--name", "alone"]) == 0


@pytest.mark.parametrize(
    ("hosts", "ranks", "options"),
    [
        (2, 4, ["--evaluate-every", "2"]),
        (3, 3, ["--rule", "delayed", "--learn-every", "9", "--boundary", "stream"]),
    ],
    ids=["flush", "delayed"],
)
def test_a_run_over_hosts_is_the_run_in_one_process_to_the_last_bit(network, tmp_path, hosts, ranks, options):
    options = [*WAVES, *options, "--runs", str(tmp_path)]
    done = network.run(ranks, hosts, *TRAIN, *options, "--name", "hosts")
    assert done.code == 0, done.errors
    assert all(f" host{number} " in done.output for number in range(1, hosts + 1))  # the table of ranks
    alone(*options)
    assert same(parameters(tmp_path / "alone"), parameters(tmp_path / "hosts"))
    metrics = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("alone", "hosts")]
    assert metrics[0] == metrics[1]


def test_replicas_over_hosts_are_replicas_on_one_host_to_the_last_bit(network, tmp_path):
    options = [*TRAIN, *WAVES, "--replicas", "2", "--runs", str(tmp_path)]
    done = network.run(4, 2, *options, "--name", "hosts")
    assert done.code == 0, done.errors
    code, _, errors = jobs.run(4, *options, "--name", "one")
    assert code == 0, errors
    assert same(parameters(tmp_path / "one"), parameters(tmp_path / "hosts"))


def test_the_first_host_alone_has_the_files_of_a_run_that_is_stopped_and_goes_on_over_other_hosts(network, tmp_path):
    start, runs = tmp_path / "start", tmp_path / "runs"
    alone(*WAVES, "--runs", str(start))
    options = [*WAVES, *STREAM, "--clips", "40", "--evaluate-every", "2", "--runs", str(runs)]
    options += ["--init", str(start / "alone" / "parameters.npz")]
    alone(*options)
    for host in network.hosts[1:]:
        host.hide(start)
        host.hide(runs)
    job = network.start(2, 2, *TRAIN, *options, "--name", "hosts")
    while not list((runs / "hosts").glob("checkpoints/step-*")):
        assert job.poll() is None, job.communicate()
        time.sleep(0.01)
    os.kill(network.launcher, signal.SIGINT)
    _, errors = job.communicate(timeout=60)
    assert job.returncode == (1 if OPEN_MPI else 130), errors  # Open MPI's mpirun has a code of its own
    assert "interrupted; to go on: --resume " in errors
    assert list((runs / "hosts").glob("checkpoints/step-*"))
    done = network.run(3, 3, *TRAIN, "--resume", str(runs / "hosts"))
    assert done.code == 0, done.errors
    assert same(parameters(runs / "alone"), parameters(runs / "hosts"))
    metrics = [(runs / name / "metrics.jsonl").read_bytes() for name in ("alone", "hosts")]
    assert metrics[0] == metrics[1]
    assert not any(host.call("find", start, runs, "-mindepth", "1") for host in network.hosts[1:])


def test_a_stream_that_the_first_host_alone_can_open_reaches_all(network, tmp_path):
    (tmp_path / "film").mkdir()
    film = tmp_path / "film" / "film.mp4"
    shutil.copy(shipped_clips()["carphone"], film)
    options = ["stream-predictor-skip", "--data", f"stream:{film}", "--clips", "3", "--evaluation-clips", "1"]
    options += ["--set", "task_options.live=false", "--runs", str(tmp_path)]
    alone(*options)
    for host in network.hosts[1:]:
        host.hide(tmp_path / "film")
    done = network.run(3, 3, *TRAIN, *options, "--name", "hosts")
    assert done.code == 0, done.errors
    assert same(parameters(tmp_path / "alone"), parameters(tmp_path / "hosts"))


def test_data_may_lie_at_another_path_on_each_host(network, tmp_path):
    make("ucf101", tmp_path / "data" / "ucf", groups=3, each=1)
    options = ["videos-small-skip", "--data", f"ucf101:{tmp_path}/data/ucf", "--clips", "2", "--batch", "2"]
    options += ["--set", "task_options.length=16", "--evaluation-clips", "1", "--runs", str(tmp_path)]
    alone(*options)
    (tmp_path / "scratch").mkdir()
    network.hosts[1].move(tmp_path / "data", tmp_path / "scratch")
    done = network.run(2, 2, *TRAIN, *options, "--name", "lost")
    assert done.code == 2
    assert f"sideways: rank 1 on host2: data 'ucf101:{tmp_path}/data/ucf': there is no folder" in done.errors
    done = network.run(2, 2, *TRAIN, *options, "--name", "hosts", SIDEWAYS_DATA=f"{tmp_path}/data={tmp_path}/scratch")
    assert done.code == 0, done.errors
    assert same(parameters(tmp_path / "alone"), parameters(tmp_path / "hosts"))
    configs = [(tmp_path / name / "config.json").read_bytes() for name in ("alone", "hosts")]
    assert configs[0] == configs[1]


def test_the_example_for_ssh_trains_on_two_hosts(network, tmp_path):
    script = "hosts-openmpi.sh" if OPEN_MPI else "hosts-mpich.sh"
    (tmp_path / ".venv").symlink_to(sys.prefix)
    options = ["--clips", "2", "--batch", "2", "--evaluation-clips", "1", "--name", "run"]
    path = Path(sideways.mpi.__file__).parent / "examples" / script
    job = network.hosts[0].words("bash", "-c", 'cd "$0" && exec bash "$@"', tmp_path, path, *options)
    ssh = {"HYDRA_LAUNCHER_EXEC": str(network.ssh), "PRTE_MCA_plm_ssh_agent": str(network.ssh)}
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    path = os.pathsep.join([str(tmp_path / ".venv" / "bin"), os.environ["PATH"]])
    variables = os.environ | ssh | root | {"PATH": path, "HOSTS": "host1,host2", "TMPDIR": "/run"}
    done = subprocess.run(job, env=variables, cwd=tmp_path, text=True, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert " host1 " in done.stdout and " host2 " in done.stdout
    assert (tmp_path / "runs" / "run" / "parameters.npz").is_file()
