"""Whole runs on the files of a data set; evaluate, predict, export and compare on their checkpoints."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.image import imread

from sideways.commands.main import main
from sideways.data import probe
from sideways.data.videos.datasets import open_set
from sideways.data.videos.make import make
from sideways.errors import Interrupted
from sideways.training.checkpoint import find
from sideways.training.config import Config
from sideways.training.recipes import load_recipe
from sideways.training.run import train

RUN = ["--clips", "3", "--batch", "4", "--set", "task_options.length=16", "--set", "model_options.width=4"]
LEAST = [*RUN, "--clips", "2", "--batch", "2", "--workers", "0"]  # for tests that look at no more


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small UCF101: 8 training and 4 test videos in each split; one listed file is missing, one is broken."""
    out = tmp_path_factory.mktemp("sets") / "ucf"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sideways.data.videos.make.SCALE", 1)  # 60 lines, as computed
        make("ucf101", out, groups=3, each=1)
    train = [video.path for video in open_set(f"ucf101:{out}").train]
    train[0].unlink()
    train[1].write_bytes(b"")
    return out


@pytest.fixture(scope="module")
def run(made, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    data = ["--data", f"ucf101:{made}", "--runs", str(runs), "--workers", "1"]
    assert main(["train", "videos-small-skip", *RUN, *data, "--cosine-every", "2", "--name", "run"]) == 0
    return runs / "run"


def test_the_report_says_what_was_run_and_names_every_file_that_could_not_be_used(run, made):
    report = (run / "report.md").read_text()
    missing, broken = open_set(f"ucf101:{made}").train[:2]
    assert "2 could not be used" in report and " on 4 of 4 (chance 0.250)" in report
    assert f"- `{missing.name}`: no such file" in report and f"- `{broken.path}`: the file is empty" in report
    assert json.loads((run / "results.json").read_text())["skipped_files"] == 2
    for words in ("vgg5-skip", "7 to train on, 12 held-out clips, 4 classes", "sideways train", "held-out accuracy"):
        assert words in report
    for name in ("accuracy", "loss", "confusion", "cosine"):
        assert f"![{name}](plots/{name}.png)" in report
        assert imread(run / "plots" / f"{name}.png").std() > 0.02
    classes = re.findall(r"^\| (\w+) \| 1 \| [01]\.000 \|$", report, re.MULTILINE)
    assert len(set(classes)) == 4


def test_cosines_are_logged_every_so_many_clips(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    measured = [line for line in lines if line["kind"] == "cosine"]
    assert [line["clip"] for line in measured] == [0, 2]
    for line in measured:
        assert line["cosines"]["head"] == pytest.approx(1, abs=1e-4)  # P6: the top's is exact
        assert all(-1.0001 <= value <= 1.0001 for value in line["cosines"].values())


def test_evaluate_repeats_the_held_out_result_of_the_run(run, tmp_path, capsys):
    result = json.loads((run / "results.json").read_text())
    for checkpoint in (run, sorted((run / "checkpoints").iterdir())[-1]):
        assert main(["evaluate", str(checkpoint), "--out", str(tmp_path / "out")]) == 0
        assert f"loss      {result['loss']:.4f}" in capsys.readouterr().out
    written = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert (written["loss"], written["accuracy"]) == (result["loss"], result["accuracy"])
    assert (tmp_path / "out" / "confusion.png").exists()


def test_evaluate_takes_another_split_or_other_videos_of_the_same_classes_only(run, made, tmp_path, capsys):
    assert main(["evaluate", str(run), "--data", f"ucf101:{made}", "--split", "2"]) == 0
    assert "on 3 of 3 held-out clips" in capsys.readouterr().out
    make("hmdb51", tmp_path / "other", what="motion", groups=2, each=1)
    assert main(["evaluate", str(run), "--data", f"hmdb51:{tmp_path / 'other'}"]) == 2
    assert "other names" in capsys.readouterr().err


def test_predict_tells_the_probabilities_of_every_tick(run, made, tmp_path, capsys):
    video = open_set(f"ucf101:{made}").test[0].path
    assert main(["predict", str(run), str(video), "--out", str(tmp_path / "p"), "--annotated"]) == 0
    table = list(csv.reader((tmp_path / "p" / "probabilities.csv").open()))
    assert len(table[0]) == 5 and [int(row[0]) for row in table[1:]] == list(range(int(table[1][0]), 16))
    assert np.allclose(np.array(table[1:], float)[:, 1:].sum(axis=1), 1, atol=1e-5)
    assert imread(tmp_path / "p" / "probabilities.png").std() > 0.02
    assert probe(tmp_path / "p" / "annotated.mp4").frames == len(table) - 1
    assert "mean" in capsys.readouterr().out
    for wrong in (tmp_path / "none.mp4", tmp_path):
        assert main(["predict", str(run), str(wrong), "--out", str(tmp_path / "no")]) == 2
    assert main(["predict", str(run), str(video), "--roll-out", "3", "--out", str(tmp_path / "no")]) == 2
    assert not (tmp_path / "no").exists()


@pytest.mark.usefixtures("undrawn")
def test_exported_weights_start_another_run_with_a_new_classifier(run, made, tmp_path, capsys):
    assert main(["export", str(run), str(tmp_path / "w.npz")]) == 0
    with np.load(tmp_path / "w.npz") as weights, np.load(run / "parameters.npz") as same:
        assert set(weights) == set(same) and all(np.array_equal(weights[key], same[key]) for key in weights)
        assert all(re.fullmatch(r"[\w-]+/(adapter\.[\w-]+\.)?\d+\.\w+", key) for key in weights)
        kept = dict(weights)
    data = ["--data", f"ucf101:{made}", "--runs", str(tmp_path), "--init", str(tmp_path / "w.npz"), "--lr", "1e-9"]
    assert main(["train", "videos-small-skip", *LEAST, *data, "--name", "same"]) == 0
    with np.load(tmp_path / "same" / "parameters.npz") as again:
        learnt = [key for key in kept if not key.endswith(("mean", "variance", "ticks"))]  # running statistics go on
        assert all(np.allclose(kept[key], again[key], atol=1e-6) for key in learnt)
    fewer = tmp_path / "set"
    for split in ("train", "test"):
        for folder in sorted((made / "UCF-101").iterdir())[:3]:  # one class fewer
            shutil.copytree(folder, fewer / split / folder.name)
    data[1] = f"folder:{fewer}"
    assert main(["train", "videos-small-skip", *LEAST, *data, "--name", "fewer"]) == 0
    with np.load(tmp_path / "fewer" / "parameters.npz") as again:
        changed = {key.split("/")[0] for key in kept if kept[key].shape != again[key].shape}
        assert changed == {"head"}
        assert np.allclose(kept["conv1/2.weight"], again["conv1/2.weight"], atol=1e-6)


@pytest.mark.usefixtures("undrawn")
def test_all_splits_are_runs_of_their_own_and_compare_puts_them_side_by_side(made, tmp_path, capsys):
    data = ["--data", f"ucf101:{made}", "--runs", str(tmp_path), "--split", "all", "--processes", "1"]
    assert main(["train", "videos-small-skip", *LEAST, *data, "--name", "splits"]) == 0
    out = capsys.readouterr().out
    assert "held-out accuracy, 3 runs: mean" in out
    configs = [json.loads((tmp_path / "splits" / f"split-{n}" / "config.json").read_text()) for n in (1, 2, 3)]
    assert [config["task_options"]["split"] for config in configs] == [1, 2, 3]
    picture = tmp_path / "c.png"
    one = str(tmp_path / "splits" / "split-1")
    assert main(["compare", str(tmp_path / "splits"), one, "--out", str(picture)]) == 0
    table = capsys.readouterr().out
    assert re.search(r"^splits +vgg5-skip +sideways +3 +\d\.\d{3} ± \d\.\d{3}", table, re.MULTILINE)
    assert re.search(r"^split-1 +vgg5-skip +sideways +1 +\d\.\d{3} ", table, re.MULTILINE)
    assert imread(picture).std() > 0.02
    (tmp_path / "copy").mkdir()
    shutil.copytree(one, tmp_path / "copy" / "split-1")
    both = [one, str(tmp_path / "copy" / "split-1")]
    assert main(["compare", *both, "--out", str(picture)]) == 0
    table = capsys.readouterr().out
    assert all(
        re.search(rf"^{re.escape(folder)} +vgg5-skip", table, re.MULTILINE) for folder in both
    )  # long names tell two folders apart
    assert main(["compare", str(tmp_path / "none")]) == 2 and "no such run" in capsys.readouterr().err


@pytest.mark.usefixtures("undrawn")
def test_bench_decode_compares_decoding_with_training(made, tmp_path, capsys):
    options = ["--workers", "0", "1", "--model", "vgg5", "--size", "32", "--batch", "2", "--clips", "1"]
    options += ["--seconds", "0.01"]
    assert main(["bench", "decode", f"ucf101:{made}", *options, "--json", str(tmp_path / "d.json")]) == 0
    report = json.loads((tmp_path / "d.json").read_text())
    results, runs = report["results"], report["runs"]
    assert [(r["what"], r["workers"]) for r in results] == [
        ("training alone", 0),
        *[("decoding alone", n) for n in (0, 1)],
        *[("training while decoding", n) for n in (0, 1)],
    ]
    assert all(r["frames_per_second"] > 0 for r in results) and "100%" in capsys.readouterr().out
    assert all(r["processor_milliseconds"] > 0 for r in results)
    assert [(r["workers"], r["cache"]) for r in runs] == [(n, c) for n in (0, 1) for c in ("", "empty", "filled")]
    assert all(0 < r["waiting"] < 1 for r in runs)


@pytest.fixture
def stopped(made, tmp_path):
    """The directory of a run on a copy of the set, stopped by Ctrl-C after its first clip, and the copy."""
    data = tmp_path / "data"
    shutil.copytree(made, data)
    config = Config.from_tables(load_recipe("videos-small-skip"), "recipe")
    options = config.task_options | {"length": 16, "data": f"ucf101:{data}"}
    config = replace(config, clips=2, batch=8, workers=0, model_options={"width": 4}, task_options=options)
    with pytest.raises(Interrupted):
        train(config, tmp_path / "run", lambda clips, line: os.kill(os.getpid(), signal.SIGINT))
    return tmp_path / "run", data


@pytest.mark.usefixtures("undrawn")
def test_a_resumed_run_takes_its_data_from_where_it_was_moved_and_names_what_was_skipped_before(stopped, capsys):
    run, data = stopped
    moved = data.rename(data.with_name("moved"))
    broken = open_set(f"ucf101:{moved}").train[1].path
    assert main(["train", "--resume", str(run)]) == 2
    assert "there is no folder" in capsys.readouterr().err
    assert main(["train", "--resume", str(run), "--data", f"hmdb51:{moved}"]) == 2
    assert "goes on with the same data: ucf101:" in capsys.readouterr().err
    skipped = json.loads((find(run) / "meta.json").read_text())["skipped"]
    assert skipped == {str(broken).replace(str(moved), str(data)): "the file is empty"}
    assert main(["train", "--resume", str(run), "--data", f"ucf101:{moved}"]) == 0
    assert "warning" not in capsys.readouterr().err
    assert all(f"- `{path}`: the file is empty" in (run / "report.md").read_text() for path in skipped)


@pytest.mark.usefixtures("undrawn")
def test_a_resumed_run_whose_data_has_changed_warns_and_one_of_other_classes_is_refused(stopped, capsys):
    run, data = stopped
    open_set(f"ucf101:{data}").train[3].path.unlink()
    assert main(["train", "--resume", str(run)]) == 0
    assert "the listed videos, or the files present, have changed since" in capsys.readouterr().err
    classes = data / "ucfTrainTestlist" / "classInd.txt"
    classes.write_text(classes.read_text() + "5 Juggling\n")
    assert main(["train", "--resume", str(run)]) == 2
    assert (
        "this run tells 4 classes (HandstandPushups, Checks, Discs, …); the data now has 5" in capsys.readouterr().err
    )


@pytest.mark.usefixtures("undrawn")
def test_a_run_is_resumed_without_the_file_that_it_started_from(run, made, tmp_path):
    assert main(["export", str(run), str(tmp_path / "w.npz")]) == 0
    data = ["--data", f"ucf101:{made}", "--runs", str(tmp_path), "--init", str(tmp_path / "w.npz"), "--name", "tuned"]
    assert main(["train", "videos-small-skip", *LEAST, *data]) == 0
    (tmp_path / "w.npz").unlink()
    assert main(["train", "--resume", str(tmp_path / "tuned")]) == 0


@pytest.mark.usefixtures("undrawn")
def test_a_set_of_training_videos_alone_is_trained_on_and_the_report_says_that_nothing_was_held_out(
    made, tmp_path, capsys
):
    shutil.copytree(made / "UCF-101", tmp_path / "set" / "train")
    data = ["--data", f"folder:{tmp_path / 'set'}", "--runs", str(tmp_path), "--name", "alone"]
    assert main(["train", "videos-small-skip", *LEAST, *data]) == 0
    assert "nothing to evaluate on" in capsys.readouterr().out
    assert "| held-out loss | there was nothing to evaluate on |" in (tmp_path / "alone" / "report.md").read_text()
    assert main(["evaluate", str(tmp_path / "alone")]) == 2
    assert "nothing usable to evaluate on: none of 0 listed videos" in capsys.readouterr().err


def test_a_set_that_shows_nothing_is_refused_before_anything_is_written(made, tmp_path, capsys):
    shutil.copytree(made, tmp_path / "set")
    for path in (tmp_path / "set").rglob("*.avi"):
        path.write_bytes(b"no video")
    data = ["--data", f"ucf101:{tmp_path / 'set'}", "--runs", str(tmp_path / "runs")]
    assert main(["train", "videos-small-skip", *LEAST, *data]) == 2
    assert "nothing usable to train on: none of 7 videos can be read, such as " in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_names_that_are_no_text_are_reported_and_printed_all_the_same(made, tmp_path):
    odd = os.fsdecode(b"caf\xe9")
    for split in ("train", "test"):
        for i, folder in enumerate(sorted((made / "UCF-101").iterdir())[:2]):
            shutil.copytree(folder, tmp_path / "set" / split / f"{odd}{i}")
    broken = tmp_path / "set" / "train" / f"{odd}0" / f"{odd}.avi"
    broken.write_bytes(b"")
    command = [sys.executable, "-m", "sideways", "train", "videos-small-skip", *RUN, "--runs", str(tmp_path / odd)]
    command += ["--data", f"folder:{tmp_path / 'set'}", "--name", "run"]
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, env=environment, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert rb"written to" in done.stdout and rb"caf\udce9/run" in done.stdout
    report = (tmp_path / odd / "run" / "report.md").read_text(encoding="utf-8")
    assert r"train/caf\xe90/caf\xe9.avi`: the file is empty" in report and r"| caf\xe91 |" in report
