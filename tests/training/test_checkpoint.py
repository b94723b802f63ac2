"""Checkpoints: a run that is stopped anywhere and resumed ends with the same bits; what is not whole is refused."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace

import numpy as np
import pytest

import sideways.training.checkpoint
import sideways.training.run
from sideways import InputError
from sideways.commands.main import main
from sideways.errors import Interrupted
from sideways.training.checkpoint import Checkpoints, find, listed, load_trained
from sideways.training.config import Config
from sideways.training.log import RunLog
from sideways.training.run import train

pytestmark = pytest.mark.usefixtures("undrawn")
RUN = Config(
    model="vgg5-skip",
    clips=5,
    batch=4,
    evaluation_clips=2,
    evaluate_every=2,
    checkpoint_every=7,
    keep_checkpoints=100,
    model_options={"width": 4},
    task_options={"size": 8, "length": 11},
)
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


def parameters(directory):
    with np.load(directory / "parameters.npz") as arrays:
        return dict(arrays)


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


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
            for path in one.glob("*.npz"):
                with np.load(path) as a, np.load(other / path.name) as b:
                    assert same(dict(a), dict(b))


def test_a_checkpoint_in_mid_stream_holds_messages_targets_sums_and_the_open_clip(tmp_path):
    train(replace(CASES["every 4"], checkpoint_every=6), tmp_path / "run")
    step = tmp_path / "run" / "checkpoints" / "step-00000018"
    with np.load(step / "conv4.npz") as arrays:
        keys = set(arrays)
        assert {"message.conv1", "message.conv3", "message.head"} <= keys
        assert arrays["message.conv1"].shape == (4, 4, 4, 4)
        assert (
            any(key.startswith("sum.0.") for key in keys) and int(arrays["count"]) == (18 - 5) % 4
        )  # backward from tick 5 on
    with np.load(step / "head.npz") as arrays:
        assert len([key for key in arrays if key.startswith("target.")]) == 5  # the latency is 4
        assert len([key for key in arrays if key.startswith("loss.")]) == 7  # ticks 11 … 17 belong to the second clip
    meta = json.loads((step / "meta.json").read_text())
    assert (meta["ticks"], meta["clip"], meta["tick"], meta["clock"]) == (18, 1, 7, 18)


def test_only_the_last_checkpoints_are_kept(tmp_path):
    train(replace(RUN, keep_checkpoints=2), tmp_path / "run")
    assert [path.name for path in listed(tmp_path / "run")] == ["step-00000049", "step-00000055"]


def test_no_checkpoint_holds_a_pickle(tmp_path):
    train(RUN, tmp_path / "run")
    for path in (tmp_path / "run").rglob("*.npz"):
        with np.load(path, allow_pickle=False) as arrays:
            assert all(arrays[key].dtype != object for key in arrays)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda step: (step / "conv2.npz").write_bytes((step / "conv2.npz").read_bytes()[:-100]), "instead of"),
        (lambda step: (step / "conv2.npz").unlink(), "conv2.npz is missing"),
        (lambda step: (step / "meta.json").write_text("{"), "not a checkpoint of this project"),
        (lambda step: (step / "meta.json").write_text('{"format": 99, "files": {}}'), "format 99"),
        (lambda step: _flip(step / "conv2.npz"), "cannot be read"),
    ],
)
def test_a_damaged_checkpoint_is_refused_and_the_one_before_it_is_offered(tmp_path, capsys, damage, words):
    train(RUN, tmp_path / "run")
    damage(listed(tmp_path / "run")[-1])
    assert main(["train", "--resume", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    offered = error.strip().rpartition("whole: ")[2]
    assert offered.endswith("step-00000049")
    assert main(["train", "--resume", offered]) == 0
    assert not (tmp_path / "run" / "checkpoints" / ".step-00000055").exists()


def _flip(path):
    """The bits of one byte of the largest array."""
    with zipfile.ZipFile(path) as arrays:
        largest = max(arrays.infolist(), key=lambda member: member.file_size)
    content = bytearray(path.read_bytes())
    content[largest.header_offset + largest.file_size] ^= 255  # behind its headers, before its last bytes
    path.write_bytes(bytes(content))


def test_what_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        find(tmp_path / "nothing")
    with pytest.raises(InputError, match="no checkpoint in it"):
        find(tmp_path)


def test_with_resume_only_workers_may_change(tmp_path, capsys):
    train(RUN, tmp_path / "run")
    for option, value in (("lr", "0.5"), ("seed", "0"), ("target-delay", "0")):
        assert main(["train", "--resume", str(tmp_path / "run"), f"--{option}", value]) == 2
        assert f"leave out {option}" in capsys.readouterr().err


def test_ctrl_c_leaves_a_checkpoint_after_the_tick_and_a_second_one_ends_at_once(tmp_path, monkeypatch):
    ticks = []

    def stop(log, *pending):
        ticks.extend([1] * (not pending))  # evaluations ask too
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


def test_killed_at_random_moments_and_resumed_each_time_the_run_ends_with_the_same_bits(tmp_path):
    options = ["waves-skip", "--clips", "12", "--batch", "4", "--evaluation-clips", "2", "--boundary", "stream"]
    options += ["--checkpoint-every", "5", "--update-every", "3", "--set", "task_options.size=8"]
    assert main(["train", *options, "--runs", str(tmp_path), "--name", "whole"]) == 0
    moment = random.Random(1)
    arguments, kills = [*options, "--runs", str(tmp_path), "--name", "killed"], 0
    for _ in range(40):
        job = subprocess.Popen(
            [sys.executable, "-m", "sideways", "train", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        if kills < 10:  # at a random moment after the first sign of a checkpoint that it adds
            deadline, before = time.monotonic() + 30, len(list((tmp_path / "killed").glob("checkpoints/*")))
            folder = tmp_path / "killed" / "checkpoints"
            names = {path.name for path in folder.glob("*")}
            while job.poll() is None and {path.name for path in folder.glob("*")} == names:
                assert time.monotonic() < deadline, before
                time.sleep(0.001)
            time.sleep(moment.uniform(0, 0.02))
            job.kill()
        errors = job.communicate(timeout=60)[1].decode()
        if job.returncode == 0:
            break
        assert job.returncode == -signal.SIGKILL, errors
        kills += 1
        if listed(tmp_path / "killed"):
            find(tmp_path / "killed")  # is whole
            arguments = ["--resume", str(tmp_path / "killed")]
        else:
            shutil.rmtree(tmp_path / "killed", ignore_errors=True)
    assert kills == 10
    assert same(parameters(tmp_path / "whole"), parameters(tmp_path / "killed"))
    assert (tmp_path / "whole" / "metrics.jsonl").read_bytes() == (tmp_path / "killed" / "metrics.jsonl").read_bytes()


def test_exported_parameters_start_another_run_and_a_new_classifier_starts_afresh(tmp_path, capsys):
    train(RUN, tmp_path / "run")
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "out.npz")]) == 0
    with np.load(tmp_path / "out.npz") as out:
        given = dict(out)
    assert same(given, parameters(tmp_path / "run"))
    tables = RUN.to_tables() | {"init": str(tmp_path / "out.npz"), "clips": 1, "checkpoint_every": 0}
    frozen = {"name": "sgd", "learning_rate": 1e-30}
    more = tables["task_options"] | {"directions": 8}
    for name, options in (("same", tables["task_options"]), ("more", more)):
        train(Config.from_tables(tables | {"optimizer": frozen, "task_options": options}, "test"), tmp_path / name)
        then = parameters(tmp_path / name)
        for key in given:
            if key.startswith("head") and name == "more":
                assert then[key].shape[-1] == 8
            elif key.endswith(("weight", "bias", "gain", "shift")):
                assert np.array_equal(then[key], given[key])
    tables["model_options"] = {"width": 8}
    with pytest.raises(InputError, match="only the top, 'head', may differ"):
        train(Config.from_tables(tables, "test"), tmp_path / "wrong")


# What else a checkpoint must bear


def test_a_finished_run_that_is_resumed_does_not_write_its_checkpoint_again(tmp_path):
    train(RUN, tmp_path / "run")
    newest = listed(tmp_path / "run")[-1]
    before = {path: path.stat().st_ino for path in newest.iterdir()}
    train(RUN, tmp_path / "run", resume=newest)
    assert {path: path.stat().st_ino for path in newest.iterdir()} == before


def test_where_the_ticks_of_a_run_are_a_multiple_its_last_checkpoint_is_written_once_and_holds_its_end(
    tmp_path, monkeypatch
):
    published = []
    publish = Checkpoints._publish
    monkeypatch.setattr(Checkpoints, "_publish", lambda *arguments: published.append(publish(*arguments)))
    train(replace(RUN, checkpoint_every=11), tmp_path / "run")
    assert len(published) == len(listed(tmp_path / "run")) == 5  # one after each clip
    expected, held = parameters(tmp_path / "run"), load_trained(listed(tmp_path / "run")[-1])
    for unit, arrays in held.network.parameters.items():
        assert all(np.array_equal(expected[f"{unit}/{key}"], array) for key, array in arrays.items())


def test_a_checkpoint_that_is_replaced_is_never_missing_while_the_new_one_is_written(tmp_path, monkeypatch):
    train(RUN, tmp_path / "run")
    second = listed(tmp_path / "run")[1]
    seen = []

    class Watched(Checkpoints):
        def _write_units(self, draft, rule, position):
            seen.append((self.folder / draft.name.removeprefix(".")).exists())
            super()._write_units(draft, rule, position)

    monkeypatch.setattr(sideways.training.run, "Checkpoints", Watched)
    train(RUN, tmp_path / "run", resume=listed(tmp_path / "run")[0])
    assert len(seen) == 7 and all(seen)
    find(second)
    assert not list((tmp_path / "run" / "checkpoints").glob(".*"))


def test_drafts_of_killed_runs_are_removed_and_those_that_come_later_are_not_counted_among_the_last(tmp_path):
    config = replace(RUN, keep_checkpoints=2)
    train(replace(RUN, keep_checkpoints=100), tmp_path / "run")
    left = tmp_path / "run" / "checkpoints" / ".step-00000012"
    left.mkdir()
    with pytest.raises(Interrupted) as stopped:
        train(config, tmp_path / "run", StopAt(3), resume=listed(tmp_path / "run")[2])
    named = stopped.value.args[0].rpartition(" ")[2]
    assert find(named).name == "step-00000033" and not left.exists()


def StopAt(clips):  # noqa: N802
    """A progress that presses Ctrl-C when so many clips are done."""
    done = []

    def progress(count, line):
        done.extend([1] * count)
        if len(done) == clips:
            os.kill(os.getpid(), signal.SIGINT)

    return progress


def test_where_the_disk_is_full_the_draft_goes_and_a_line_says_so(tmp_path, monkeypatch, capsys):
    def full(path, write):
        path.write_bytes(b"some")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sideways.training.checkpoint, "_write", full)
    options = ["--clips", "2", "--batch", "2", "--evaluation-clips", "1", "--runs", str(tmp_path), "--name", "run"]
    assert main(["train", "waves-skip", *options]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"cannot write the checkpoint .*step-\d+: No space left on device$", error)
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []


def test_metrics_that_were_lost_are_not_made_up(tmp_path, capsys):
    train(RUN, tmp_path / "run")
    metrics = tmp_path / "run" / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes()[:130])
    train(RUN, tmp_path / "run", resume=find(tmp_path / "run"))
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert [(line["kind"], line["clip"]) for line in lines] == [("train", 1), ("evaluation", 5)]
    assert "has 130 bytes, the checkpoint tells of" in capsys.readouterr().err


def test_a_checkpoint_away_from_its_run_is_not_resumed_and_nothing_is_written_beside_it(tmp_path, capsys):
    train(RUN, tmp_path / "run")
    copied = tmp_path / "a" / "b" / "step-00000055"
    shutil.copytree(listed(tmp_path / "run")[-1], copied)
    assert main(["train", "--resume", str(copied)]) == 2
    assert "a checkpoint must lie in its run" in capsys.readouterr().err
    assert sorted(p.name for p in (tmp_path / "a").rglob("*") if p.is_dir()) == ["b", "step-00000055"]


def test_a_unit_without_one_of_its_arrays_is_refused_in_a_line(tmp_path, capsys):
    train(RUN, tmp_path / "run")
    path = listed(tmp_path / "run")[-1] / "conv2.npz"
    with np.load(path) as arrays:
        kept = dict(arrays)
    meta = path.with_name("meta.json")
    np.savez(path, **{key: array for key, array in kept.items() if key != "parameters.0.weight"})
    meta.write_text(re.sub(r'"conv2.npz": \d+', f'"conv2.npz": {path.stat().st_size}', meta.read_text()))
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "out.npz")]) == 2
    assert "conv2.npz lacks parameters.0.weight" in capsys.readouterr().err


def test_an_interrupted_evaluation_is_made_anew_when_the_run_goes_on(tmp_path, monkeypatch):
    config = replace(RUN, checkpoint_every=0)
    train(config, tmp_path / "whole")
    for moment in (1, 3, 4):  # batches of the evaluations after clip 2, clip 4 and at the end
        run, asked = tmp_path / f"run{moment}", []

        def stop(log, *pending, asked=asked, moment=moment):
            asked.extend(pending)
            return len(asked) == moment

        monkeypatch.setattr(RunLog, "stop_requested", stop)
        with pytest.raises(Interrupted, match=r"interrupted; to go on: --resume .*/step-\d+"):
            train(config, run)
        monkeypatch.undo()
        train(config, run, resume=find(run))
        assert same(parameters(tmp_path / "whole"), parameters(run))
        assert (run / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()
