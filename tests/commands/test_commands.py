"""The commands: each prints and writes what its help says."""

import json
import re
import subprocess
import sys

import numpy
import pytest
from command_line import MLP, QUICK

import sideways.training.loop
from sideways.data import write_video
from sideways.models import MODELS
from sideways.training.build import build_network, build_rule, build_task
from sideways.training.config import Config
from sideways.training.recipes import load_recipe, recipe_names


def config_in(directory):
    return json.loads((directory / "config.json").read_text())


# What works


def test_train_says_how_it_went_and_where_it_is_written(command, tmp_path):
    code, out, _ = command("train", "waves-skip", *QUICK, *MLP, "--name", "first")
    assert code == 0
    seed, written = out.splitlines()
    assert re.fullmatch(
        r"seed 1: held-out accuracy [01]\.\d{3} ± 0\.\d{3} on 2 clips \(chance 0\.25\), \d+\.\d{3} ms per frame, "
        r"\d+\.\d MB of activations",
        seed,
    )
    assert written == "written to runs/first"
    assert config_in(tmp_path / "runs" / "first")["clips"] == 2
    assert (tmp_path / "runs" / "first" / "results.json").exists()


@pytest.mark.usefixtures("undrawn")
def test_runs_without_a_name_are_numbered(command, tmp_path):
    for _ in range(2):
        assert command("train", "waves-chain", *QUICK, *MLP)[0] == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["waves-chain-1", "waves-chain-2"]


@pytest.mark.usefixtures("undrawn")
def test_seeds_run_one_after_the_other_from_the_seed_on_and_end_with_mean_and_spread(command, tmp_path):
    arguments = ["--seeds", 2, "--seed", 7, "--processes", 1, "--name", "two"]
    code, out, _ = command("train", "waves-skip", *QUICK, *MLP, *arguments)
    assert code == 0
    assert [line.split(":")[0] for line in out.splitlines()[:2]] == ["seed-7", "seed-8"]
    scores = [
        json.loads((tmp_path / "runs/two" / f"seed-{s}" / "results.json").read_text())["accuracy"] for s in (7, 8)
    ]
    assert f"held-out accuracy, 2 runs: mean {numpy.mean(scores):.3f}, " in out
    assert f"standard deviation {numpy.std(scores, ddof=1):.3f}" in out
    assert [config_in(tmp_path / "runs/two" / f"seed-{s}")["seed"] for s in (7, 8)] == [7, 8]


@pytest.mark.usefixtures("undrawn")
def test_options_and_set_change_the_recipe(command, tmp_path):
    code, _, _ = command(
        *[
            "train",
            "waves-skip",
            *QUICK,
            "--model",
            "mlp-skip",
            "--rule",
            "delayed",
            "--task",
            "shapes",
            "--seed",
            "3",
        ],
        *["--boundary", "stream", "--dtype", "float64", "--lr", "0.5", "--optimizer", "sgd", "--update-every", "3"],
        *["--target-delay", "1", "--evaluate-every", "1", "--threads", "1", "--backend", "numpy", "--name", "changed"],
        *["--set", "optimizer.momentum=0.5", "--set", "schedule.name=constant", "--set", "rates.dense1=0"],
        *["--set", "model_options.hidden=[3, 4, 5]", "--set", "label_smoothing=0.1", "--set", "summary=as I like it"],
        *["--set", "task_options.size = 8", "--set", "model_options.merge='add'"],
    )
    assert code == 0
    config = config_in(tmp_path / "runs" / "changed")
    expected = {"model": "mlp-skip", "rule": "delayed", "task": "shapes", "seed": 3, "boundary": "stream"}
    expected |= {"dtype": "float64", "update_every": 3, "target_delay": 1, "evaluate_every": 1, "clips": 2}
    expected |= {"optimizer": {"name": "sgd", "learning_rate": 0.5, "momentum": 0.5}, "rates": {"dense1": 0}}
    expected |= {"model_options": {"hidden": [3, 4, 5], "merge": "add"}, "summary": "as I like it"}
    expected |= {"label_smoothing": 0.1, "schedule": {"name": "constant"}}
    assert {key: config[key] for key in expected} == expected
    assert config["task_options"] == {"length": 18, "size": 8, "speed": 1.0}


@pytest.mark.usefixtures("undrawn")
def test_a_recipe_may_be_a_file_of_ones_own(command, tmp_path):
    (tmp_path / "own.toml").write_text(
        'model = "mlp"\nclips = 1\nbatch = 2\nevaluation_clips = 1\n'
        "[model_options]\nhidden = [4]\n[task_options]\nsize = 8\n"
    )
    assert command("train", "own.toml")[0] == 0
    assert config_in(tmp_path / "runs" / "own-1")["model_options"] == {"hidden": [4]}


@pytest.mark.usefixtures("undrawn")
def test_a_video_of_ones_own_is_named_by_set(command, tmp_path):
    frames = numpy.random.default_rng(0).integers(0, 256, (30, 40, 40, 3), dtype=numpy.uint8)
    write_video(tmp_path / "my film.mp4", frames)
    videos = 'task_options.videos=["my film.mp4"]'
    options = ["--set", videos, "--set", "task_options.length=9", "--set", "task_options.lines=40"]
    assert command("train", "pan-chain", *QUICK, *MLP, *options)[0] == 0


def test_models_and_recipes_are_listed_with_a_line_each(command):
    code, out, err = command("models")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == list(MODELS)
    code, out, err = command("recipes")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == recipe_names()
    assert all(len(line.split()) > 3 and len(line) <= 120 for line in out.splitlines())


def test_the_summary_of_vgg8_skip_shows_shapes_costs_and_the_static_schedule(command):
    code, out, err = command("summary", "vgg8-skip")
    assert (code, err) == (0, "")
    schedule, memory = out.split("\n\n")[:2]
    rows = [re.split(r" {2,}", line) for line in schedule.splitlines()]
    assert [row.split()[0] for row in memory.splitlines()[:9]] == [row[0] for row in rows[:9]]
    assert rows[0][:4] == ["unit", "inputs", "output", "parameters"]
    assert rows[0][4:] == ["mult-adds", "forward", "backward", "out of step", "kept"]
    channels = {"conv1": (3, 64, 112), "conv2": (64, 128, 56), "conv3": (128, 256, 28), "conv4": (256 + 64, 256, 14)}
    channels["conv5"] = (256, 512, 7)
    work, sizes = [], []
    for name, (inputs, outputs, side) in channels.items():
        work.append(9 * inputs * outputs * side**2)
        sizes.append(9 * inputs * outputs + outputs)
        (row,) = [row for row in rows if row[0] == name]
        assert row[3:5] == [f"{sizes[-1]:,}", f"{work[-1]:,}"]
    work += [512 * 512, 512 * 512, 512 * 101]
    sizes += [512 * 513, 512 * 513, 513 * 101]
    assert rows[1][:3] == ["conv1", "frame", "56×56×64"]
    assert rows[1][5:] == ["tick 0", "tick 14", "10 … 14", "15 or 2"]
    assert rows[4][:3] == ["conv4", "conv3 ‖ conv1", "7×7×256"]
    assert rows[4][5:] == ["tick 3", "tick 11", "8", "9 or 1"]
    assert rows[8] == ["classifier", "dense7", "101", "51,813", "51,712", "tick 7", "tick 7", "0", "0"]
    assert out.splitlines()[9] == (
        f"8 units, depth 8, latency 7 ticks; {sum(sizes):,} parameters, {sum(work):,} multiply-adds per frame"
    )


@pytest.mark.parametrize("model", MODELS)
def test_every_model_has_a_summary(command, model):
    code, out, _ = command("summary", model, "--size", "32", "32", "3")
    assert code == 0 and "scratch MB" in out


def test_the_summary_takes_the_size_the_classes_and_the_options_of_the_model(command):
    code, out, _ = command("summary", "vgg5-skip", "--size", 16, 16, 1, "--classes", 4, "--set", "skip=frame>conv3")
    assert code == 0
    assert "conv2 ‖ frame" in out
    assert out.splitlines()[5].split()[:3] == ["head", "conv4", "4"]


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_builds_and_ticks(name, tmp_path):
    tables = load_recipe(name)
    if tables["task"] in ("videos", "stream"):  # empty files are enough: none is opened
        for part in ("train/a", "train/b", "test/a"):
            (tmp_path / part).mkdir(parents=True)
            (tmp_path / part / "1.mp4").touch()
        tables["task_options"]["data"] = f"folder:{tmp_path}" if tables["task"] == "videos" else "stream:1.mp4"
    config = Config.from_tables(tables, name)
    task = build_task(config)
    network = build_network(config, task.frame_shape, len(task.classes))
    rule = build_rule(config, task, network)
    frame = numpy.random.default_rng(0).normal(size=(2, *task.frame_shape))
    for _ in range(network.depth):
        tick = rule.tick(frame, frame if config.horizon else numpy.array([0, 1]))
    assert tick.output.shape == (frame.shape if config.horizon else (2, len(task.classes)))
    assert config.boundary == "stream" or task.length >= 2 * network.depth - 1
    assert config.summary


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["demo", "--help"], ["summary", "--help"]])
def test_help_is_printed_and_is_no_error(command, arguments):
    code, out, err = command(*arguments)
    assert (code, err) == (0, "")
    assert out.startswith("usage: sideways")


def test_divergence_ends_with_exit_code_1_and_a_line(command, tmp_path):
    code, _, err = command("train", *QUICK, *MLP, "--lr", "1e30", "--optimizer", "sgd", "--name", "wild")
    assert code == 1
    assert re.search(
        r"sideways: the loss is \w+ in clip [12] \(step \d+\): the parameters of dense1, "
        r"classifier are not finite; lower the learning rate\n$",
        err,
    )
    assert not (tmp_path / "runs" / "wild" / "results.json").exists()


def test_an_interrupt_ends_with_exit_code_130_and_a_line(command, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(sideways.training.loop.Trainer, "train_clip", interrupt)
    code, _, err = command("train", *QUICK, *MLP)
    assert code == 130
    assert err.splitlines()[-1].endswith("sideways: interrupted")


# As a program


def test_python_m_sideways_trains_and_refuses_as_a_program_does(tmp_path):
    def program(*arguments):
        command = [sys.executable, "-m", "sideways", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, stdin=subprocess.DEVNULL)

    trained = program("train", *QUICK, *MLP, "--seeds", "2", "--processes", "2", "--name", "x")
    assert (trained.returncode, trained.stdout.splitlines()[-1]) == (0, "written to runs/x")
    assert sorted(path.name for path in (tmp_path / "runs/x").iterdir()) == ["seed-1", "seed-2"]
    refusal = program("train", "--set", "task_options.length=3", "--name", "y")
    assert refusal.returncode == 2
    assert refusal.stderr.splitlines()[-1].startswith("sideways: clips of 3 frames train no bottom unit")
    assert "Traceback" not in refusal.stderr
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["x"]
