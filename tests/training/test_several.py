"""Several runs of one command: they stop together, go on together, and leave no process behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sideways.commands.main import main
from sideways.data.videos.make import make
from sideways.training.checkpoint import find
from tests.training.runs import parameters, same

SMALL = ["waves-skip", "--batch", "4", "--evaluation-clips", "1", "--set", "task_options.size=8"]
SEEDS = [*SMALL, "--seeds", "3", "--name", "runs"]


def started(tmp_path, *arguments):
    """Start `sideways train` in a process group of its own, and return it once two runs are under way."""
    command = [sys.executable, "-m", "sideways", "train", *arguments, "--processes", "2", "--runs", str(tmp_path)]
    job = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 60
    while len([path for path in tmp_path.glob("runs/seed-*/metrics.jsonl") if path.stat().st_size]) < 2:
        assert time.monotonic() < deadline and job.poll() is None
        time.sleep(0.05)
    return job


def children(pid):
    """The PIDs of the processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def gone(pids, seconds=20):
    """Whether all of these processes end within so many seconds. Those that do not are killed."""
    deadline = time.monotonic() + seconds
    while alive := [pid for pid in pids if Path(f"/proc/{pid}").exists() and not _zombie(pid)]:
        if time.monotonic() > deadline:
            for pid in alive:
                os.kill(pid, signal.SIGKILL)
            return False
        time.sleep(0.05)
    return True


def _zombie(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM", "SIGKILL"])
def test_runs_side_by_side_stop_with_checkpoints_none_is_begun_and_no_process_is_left(tmp_path, how):
    job = started(tmp_path, *SMALL, "--seeds", "9", "--name", "runs", "--clips", "100000")  # most wait
    workers = children(job.pid)
    assert len(workers) >= 2
    if how == "Ctrl-C":
        os.killpg(job.pid, signal.SIGINT)  # a terminal sends the signal to the whole group, too
    else:
        job.send_signal(signal.Signals[how])
    _, errors = job.communicate(timeout=60)
    assert gone(workers)
    if how != "SIGKILL":
        assert job.returncode == 130, errors
        last = errors.splitlines()[-1]
        assert last.endswith("repeat the command, with --name runs, to continue the runs that have not finished")
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["seed-1", "seed-2"]
    for seed in (1, 2) if how != "SIGKILL" else ():
        find(tmp_path / "runs" / f"seed-{seed}")


@pytest.fixture
def unmeasured(monkeypatch):
    """Let runs measure no memory after their training: no test here looks at it."""
    monkeypatch.setattr("sideways.training.run._memory_of_clip", lambda trainer: None)


@pytest.mark.usefixtures("undrawn", "unmeasured")
def test_the_same_command_again_goes_on_with_what_is_missing(tmp_path, capsys):
    options = ["train", *SEEDS, "--clips", "3", "--checkpoint-every", "20", "--processes", "1", "--runs"]
    assert main([*options, str(tmp_path / "whole")]) == 0
    assert main([*options, str(tmp_path)]) == 0
    runs = [tmp_path / "runs" / f"seed-{seed}" for seed in (1, 2, 3)]
    ended = (runs[0] / "results.json").stat().st_mtime_ns
    (runs[1] / "results.json").unlink()  # stopped after a checkpoint
    for path in ("results.json", "checkpoints"):  # stopped before one
        subprocess.run(["rm", "-r", str(runs[2] / path)], check=True)
    capsys.readouterr()
    assert main([*options, str(tmp_path)]) == 0
    assert "held-out accuracy, 3 runs: mean" in capsys.readouterr().out
    assert (runs[0] / "results.json").stat().st_mtime_ns == ended
    for run in runs:
        assert same(parameters(run), parameters(tmp_path / "whole" / "runs" / run.name))
    assert main([*options, str(tmp_path), "--lr", "0.5"]) == 2
    assert "seed-1 exists already, with other settings" in capsys.readouterr().err
    assert main(["train", "--resume", str(tmp_path / "runs")]) == 2
    assert "a folder of several runs: name one of them (to train on: repeat the command" in capsys.readouterr().err


@pytest.mark.usefixtures("undrawn", "unmeasured")
def test_all_splits_of_data_that_a_config_names(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sideways.data.videos.make.SCALE", 1)  # 60 lines, as computed
    make("ucf101", tmp_path / "ucf", groups=3, each=1)
    options = ["--clips", "1", "--batch", "2", "--workers", "0", "--runs", str(tmp_path), "--processes", "1"]
    data = f'task_options.data="ucf101:{tmp_path / "ucf"}"'
    small = ["--set", "task_options.length=11", "--set", "model_options.width=4"]
    assert main(["train", "videos-small-skip", *options, *small, "--set", data, "--split", "all", "--name", "a"]) == 0
    config = str(tmp_path / "a" / "split-2" / "config.json")
    assert main(["train", config, *options, "--split", "all", "--name", "b"]) == 0
    configs = [json.loads((tmp_path / "b" / f"split-{n}" / "config.json").read_text()) for n in (1, 2, 3)]
    assert [config["task_options"]["split"] for config in configs] == [1, 2, 3]
    capsys.readouterr()
    assert main(["train", "waves-skip", *options, "--split", "all"]) == 2
    assert "write KIND:FOLDER" in capsys.readouterr().err
