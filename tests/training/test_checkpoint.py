"""Resuming: a run that is stopped anywhere and resumed ends with the bits of the uninterrupted run."""

import json
import os
import random
import shutil
import signal
import sys
import time
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pytest

from sideways import InputError
from sideways.commands.main import main
from sideways.errors import Interrupted
from sideways.training.checkpoint import find, listed
from sideways.training.config import Config
from sideways.training.log import RunLog
from sideways.training.run import train
from tests.training.runs import RUN, parameters, same

pytestmark = pytest.mark.usefixtures("undrawn", "unmeasured")
CASES = {
    "flush": RUN,
    "stream": replace(RUN, boundary="stream"),
    "every tick": replace(RUN, update_every=1, optimizer={"name": "sgd", "learning_rate": 0.01, "momentum": 0.9}),
    "every 4": replace(RUN, update_every=4, boundary="stream", rates={"conv2": 0.5}),
    "ahead": replace(RUN, model="predictor-skip", model_options={}, horizon=2, boundary="stream"),
    "cosines": replace(RUN, cosine_every=2),
    "backprop": replace(RUN, rule="backprop", update_every=3),
    "delayed": replace(RUN, rule="delayed", update_every=4, boundary="stream"),
    "delayed, flush": replace(RUN, rule="delayed"),
    "bptt": replace(RUN, rule="bptt", checkpoint_every=20),
}


@pytest.fixture
def unmeasured(monkeypatch):
    """Let runs measure no memory and write no video after their training: neither is compared here."""
    monkeypatch.setattr("sideways.training.run._memory_of_clip", lambda trainer: None)
    monkeypatch.setattr("sideways.training.report.frames_ahead.prediction_video", lambda *arguments: None)


@pytest.mark.parametrize("case", CASES)
def test_resumed_from_any_checkpoint_a_run_ends_with_the_bits_of_the_uninterrupted_one(tmp_path, case):
    config = CASES[case]
    train(config, tmp_path / "whole")
    written = listed(tmp_path / "whole")
    assert len(written) == (3 if case == "bptt" else 8)  # 55 ticks: 7, 14, … 49 and the end; bptt: after clips 2, 4, 5
    for checkpoint in written:
        again = tmp_path / checkpoint.name
        shutil.copytree(tmp_path / "whole", again)
        for later in listed(again):
            if later.name > checkpoint.name:
                shutil.rmtree(later)
        for name in ("parameters.npz", "results.json", "report.md"):
            (again / name).unlink()
        train(config, again, resume=find(again))
        assert same(parameters(tmp_path / "whole"), parameters(again))
        assert (again / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()
        for one, other in zip(written, listed(again), strict=True):
            names = sorted(path.name for path in one.glob("*.npz"))
            assert names and names == sorted(path.name for path in other.glob("*.npz"))
            for name in names:
                assert (one / name).read_bytes() == (other / name).read_bytes(), (one.name, name)


def test_ctrl_c_leaves_a_checkpoint_after_the_tick_and_a_second_one_ends_at_once(tmp_path, monkeypatch):
    ticks = []

    def stop(log, *pending):
        ticks.extend([1] * (not pending))  # evaluations ask too, with an argument
        if len(ticks) == 25:
            os.kill(os.getpid(), signal.SIGINT)
        return log.stop_asked

    monkeypatch.setattr(RunLog, "stop_requested", stop)
    with pytest.raises(Interrupted, match=r"to go on: --resume .*step-00000025"):
        train(replace(RUN, checkpoint_every=0), tmp_path / "run")
    monkeypatch.undo()
    train(replace(RUN, checkpoint_every=0), tmp_path / "whole")
    train(replace(RUN, checkpoint_every=0), tmp_path / "run", resume=find(tmp_path / "run"))
    assert same(parameters(tmp_path / "whole"), parameters(tmp_path / "run"))
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()


def test_an_interrupted_evaluation_is_made_anew_when_the_run_goes_on(tmp_path, monkeypatch):
    config = replace(RUN, checkpoint_every=0)
    train(config, tmp_path / "whole")
    for moment in (1, 3, 4):  # batches of the evaluations after clip 2, clip 4 and at the end
        run, questions = tmp_path / f"run{moment}", []

        def stop(log, *pending, questions=questions, moment=moment):
            questions.extend(pending)
            return len(questions) == moment

        monkeypatch.setattr(RunLog, "stop_requested", stop)
        with pytest.raises(Interrupted, match=r"interrupted; to go on: --resume .*/step-\d+"):
            train(config, run)
        monkeypatch.undo()
        train(config, run, resume=find(run))
        assert same(parameters(tmp_path / "whole"), parameters(run))
        assert (run / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()


def end_with_code_of(arguments):
    """Run a command, and end this process with its exit code."""
    sys.exit(main(arguments))


def test_killed_at_random_moments_and_resumed_each_time_the_run_ends_with_the_same_bits(tmp_path):
    options = ["waves-skip", "--clips", "12", "--batch", "4", "--evaluation-clips", "2", "--boundary", "stream"]
    options += ["--checkpoint-every", "5", "--update-every", "3", "--set", "task_options.size=8"]
    assert main(["train", *options, "--runs", str(tmp_path), "--name", "whole"]) == 0
    moment = random.Random(1)
    processes = get_context("forkserver")  # a process that has imported everything begins at once
    processes.set_forkserver_preload([main.__module__])
    arguments, kills = [*options, "--runs", str(tmp_path), "--name", "killed"], 0
    for _ in range(40):
        job = processes.Process(target=end_with_code_of, args=(["train", *arguments],))
        job.start()
        if kills < 10:  # kill at a random moment after the first sign of a new checkpoint
            deadline, before = time.monotonic() + 30, len(list((tmp_path / "killed").glob("checkpoints/*")))
            folder = tmp_path / "killed" / "checkpoints"
            names = {path.name for path in folder.glob("*")}
            while job.is_alive() and {path.name for path in folder.glob("*")} == names:
                assert time.monotonic() < deadline, before
                time.sleep(0.001)
            time.sleep(moment.uniform(0, 0.02))
            job.kill()
        job.join(timeout=60)
        if job.exitcode == 0:
            break
        assert job.exitcode == -signal.SIGKILL
        kills += 1
        if listed(tmp_path / "killed"):
            find(tmp_path / "killed")  # raises an error if the checkpoint is not whole
            arguments = ["--resume", str(tmp_path / "killed")]
        else:
            shutil.rmtree(tmp_path / "killed", ignore_errors=True)
    assert kills == 10
    assert same(parameters(tmp_path / "whole"), parameters(tmp_path / "killed"))
    assert (tmp_path / "whole" / "metrics.jsonl").read_bytes() == (tmp_path / "killed" / "metrics.jsonl").read_bytes()


def test_metrics_that_were_lost_are_not_made_up(tmp_path, capsys):
    train(RUN, tmp_path / "run")
    metrics = tmp_path / "run" / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes()[:130])
    train(RUN, tmp_path / "run", resume=find(tmp_path / "run"))
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert [(line["kind"], line["clip"]) for line in lines] == [("train", 1), ("evaluation", 5)]
    assert "has 130 bytes, but" in capsys.readouterr().err


def test_with_resume_only_workers_may_change(tmp_path, capsys):
    train(RUN, tmp_path / "run")
    for option, value in (("lr", "0.5"), ("seed", "0"), ("target-delay", "0")):
        assert main(["train", "--resume", str(tmp_path / "run"), f"--{option}", value]) == 2
        assert f"leave out {option}" in capsys.readouterr().err


def test_exported_parameters_start_another_run_and_a_new_classifier_starts_afresh(tmp_path, capsys):
    train(RUN, tmp_path / "run")
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "out.npz")]) == 0
    with np.load(tmp_path / "out.npz") as arrays:
        exported = dict(arrays)
    assert same(exported, parameters(tmp_path / "run"))
    tables = RUN.to_tables() | {"init": str(tmp_path / "out.npz"), "clips": 1, "checkpoint_every": 0}
    frozen = {"name": "sgd", "learning_rate": 1e-30}
    more = tables["task_options"] | {"directions": 8}
    for name, options in (("same", tables["task_options"]), ("more", more)):
        train(Config.from_tables(tables | {"optimizer": frozen, "task_options": options}, "test"), tmp_path / name)
        trained = parameters(tmp_path / name)
        for key in exported:
            if key.startswith("head") and name == "more":
                assert trained[key].shape[-1] == 8
            elif key.endswith(("weight", "bias", "gain", "shift")):
                assert np.array_equal(trained[key], exported[key])
    tables["model_options"] = {"width": 8}
    with pytest.raises(InputError, match="only the top, 'head', may differ"):
        train(Config.from_tables(tables, "test"), tmp_path / "wrong")
