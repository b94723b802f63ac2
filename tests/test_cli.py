"""The command line: what each command prints, what it writes, and one line for what cannot be."""

import json
import re
import subprocess
import sys

import numpy
import pytest

import sideways.training
from sideways.cli import main
from sideways.config import Config, build_network, build_rule, build_task
from sideways.data import write_video
from sideways.models import MODELS
from sideways.recipes import load_recipe, recipe_names

QUICK = ["--clips", "2", "--batch", "2", "--evaluation-clips", "1"]
MLP = ["--model", "mlp", "--set", "model_options.hidden=[4]", "--set", "task_options.size=8"]


@pytest.fixture
def command(tmp_path, capsys, monkeypatch):
    """Run a command in an empty folder: (exit code, what it printed, what it printed as errors)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:  # argparse
            code = stop.code
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


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


def test_runs_without_a_name_are_numbered(command, tmp_path):
    for _ in range(2):
        assert command("train", "waves-chain", *QUICK, *MLP)[0] == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["waves-chain-1", "waves-chain-2"]


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


def test_a_recipe_may_be_a_file_of_ones_own(command, tmp_path):
    (tmp_path / "mine.toml").write_text(
        'model = "mlp"\nclips = 1\nbatch = 2\nevaluation_clips = 1\n'
        "[model_options]\nhidden = [4]\n[task_options]\nsize = 8\n"
    )
    assert command("train", "mine.toml")[0] == 0
    assert config_in(tmp_path / "runs" / "mine-1")["model_options"] == {"hidden": [4]}


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
    assert rows[0] == ["unit", "inputs", "output", "parameters", "mult-adds", "forward", "backward", "out of step"]
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
    assert rows[1][5:] == ["tick 0", "tick 14", "10 … 14"]
    assert rows[4][:3] == ["conv4", "conv3 ‖ conv1", "7×7×256"]
    assert rows[4][5:] == ["tick 3", "tick 11", "8"]
    assert rows[8] == ["classifier", "dense7", "101", "51,813", "51,712", "tick 7", "tick 7", "0"]
    assert out.splitlines()[9] == (
        f"8 units, depth 8, latency 7 ticks; {sum(sizes):,} parameters, {sum(work):,} multiply-adds per frame"
    )


def test_the_summary_takes_the_size_the_classes_and_the_options_of_the_model(command):
    code, out, _ = command("summary", "vgg5-skip", "--size", 16, 16, 1, "--classes", 4, "--set", "skip=frame>conv3")
    assert code == 0
    assert "conv2 ‖ frame" in out
    assert out.splitlines()[5].split()[:3] == ["head", "conv4", "4"]


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_builds_and_ticks(name, tmp_path):
    tables = load_recipe(name)
    if tables["task"] in ("videos", "stream"):  # the files are there; none is opened
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


# What does not


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    """A folder of files that are not what they should be."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "broken.toml").write_text("model = = 3")
    (folder / "unknown.toml").write_text("modell = 'mlp'")
    (folder / "table.toml").write_text("optimizer = 3")
    (folder / "latin.toml").write_bytes(b"summary = '\xff'")
    (folder / "folder.toml").mkdir()
    (folder / "file").write_text("here")
    (folder / "empty.mp4").touch()
    (folder / "garbage.mp4").write_bytes(numpy.random.default_rng(0).bytes(5000))
    frames = numpy.random.default_rng(0).integers(0, 256, (12, 120, 160, 3), dtype=numpy.uint8)
    write_video(folder / "short.mp4", frames)
    return folder


def assignment(text, words, *more):
    return pytest.param(["--set", text, *more], words, id=text)


REFUSED = [
    (["waves"], "unknown recipe 'waves': choose one of "),
    (["{bad}/broken.toml"], "broken.toml is not valid TOML: Invalid value (at line 1, column 9)"),
    (["{bad}/unknown.toml"], "has no setting 'modell'; settings are model, rule"),
    (["{bad}/table.toml"], "table.toml: optimizer must be a table, not 3"),
    (["{bad}/latin.toml"], "cannot read the recipe"),
    (["{bad}/folder.toml"], "cannot read the recipe"),
    (["{bad}/missing.toml"], "cannot read the recipe"),
    (["--model", "vgg9"], "unknown model 'vgg9': choose one of mlp"),
    (["--rule", "hebb"], "unknown rule 'hebb': choose one of sideways, delayed, backprop, bptt, noisy"),
    (["--task", "chess"], "unknown task 'chess': choose one of waves, shapes, pan, which-clip"),
    (["--optimizer", "lbfgs"], "unknown optimizer 'lbfgs': choose one of sgd, adam"),
    (["--dtype", "int8"], "unknown dtype 'int8'"),
    (["--backend", "jax"], "unknown backend 'jax'"),
    (["--lr", "-1"], "the learning rate must be positive and finite, not -1.0"),
    (["--lr", "nan"], "the learning rate must be positive and finite, not nan"),
    (["--lr", "inf"], "the learning rate must be positive and finite, not inf"),
    (["--lr", "0"], "the learning rate must be positive and finite, not 0.0"),
    (["--clips", "0"], "clips must be a whole number of at least 1, not 0"),
    (["--clips", "many"], "argument --clips: invalid int value: 'many'; see sideways train --help"),
    (["--batch", "0"], "batch must be a whole number of at least 1, not 0"),
    (["--evaluation-clips", "0"], "task 'waves' has no end: evaluation_clips must be at least 1"),
    (["--evaluate-every", "-1"], "evaluate_every must be a whole number, or 0, not -1"),
    (["--seed", "-1"], "seed must be a whole number of at least 0, not -1"),
    (["--threads", "0"], "threads must be a whole number of at least 1, not 0"),
    (["--seeds", "0"], "--seeds and --processes must be at least 1"),
    (["--processes", "0"], "--seeds and --processes must be at least 1"),
    (["--boundary", "wall"], "unknown clip boundary 'wall': choose 'flush' or 'stream'"),
    (["--target-delay", "9"], "target_delay must be 0 … 4 (the network's latency), not 9"),
    (["--update-every", "0"], "update_every must be a positive number of ticks or 'clip', not 0"),
    (["--update-every", "week"], "update_every must be a positive number of ticks or 'clip', not 'week'"),
    (["--rule", "bptt", "--update-every", "2"], "BPTT knows the gradient only when a clip is over"),
    (["--name", ""], "--name is the name of a folder to make in runs, not ''"),
    (["--name", ".."], "--name is the name of a folder to make in runs, not '..'"),
    (["--name", "a/b"], "--name is the name of a folder to make in runs, not 'a/b'"),
    (["--runs", "{bad}/file/runs"], "Not a directory"),
    (["--runs", "{bad}/file", "--name", "x"], "Not a directory"),
    (["--nonsense"], "unrecognized arguments: --nonsense"),
    assignment("clips", "--set takes TABLE.KEY=VALUE, such as task_options.speed=1.5, not 'clips'"),
    assignment("=3", "--set takes TABLE.KEY=VALUE"),
    assignment("a.b.c=1", "--set takes TABLE.KEY=VALUE"),
    assignment('clips="x"', "clips must be a whole number, not 'x'"),
    assignment("batch=true", "batch must be a whole number, not True"),
    assignment("seed=1.5", "seed must be a whole number, not 1.5"),
    assignment("nonsense=1", "has no setting 'nonsense'"),
    assignment("nonsense.x=1", "has no setting 'nonsense'"),
    assignment("clips.x=1", "--set clips.x=1: clips is no table"),
    assignment("model=[1]", "model must be a string, not [1]"),
    assignment("rule=['a']", "rule must be a string, not ['a']"),
    assignment("rates.nope=0", "names unit 'nope'; the units are conv1, conv2, conv3, conv4, head"),
    assignment("rates.conv1=-1", "the learning-rate factor of unit 'conv1' must not be negative: -1"),
    assignment("rates.conv1='x'", "rates must be a table, each value a number"),
    assignment("optimizer.nope=1", "optimizer 'adam' has no option 'nope'; it has learning_rate, beta1"),
    assignment("optimizer.learning_rate='x'", "optimizer 'adam': learning_rate must be a number, not 'x'"),
    assignment("optimizer.schedule=1", "optimizer 'adam' has no option 'schedule'"),
    assignment("optimizer.beta1=1", "Adam needs beta1 and beta2 in [0, 1)"),
    assignment("optimizer.momentum=2", "momentum lies in [0, 1), not 2", "--optimizer", "sgd"),
    assignment("optimizer=3", "optimizer must be a table, not 3"),
    assignment("schedule.name=zigzag", "unknown schedule 'zigzag': choose one of constant, step, cosine"),
    assignment("schedule.name=step", "schedule 'step' needs every, a whole number"),
    assignment("schedule.ticks=0", "a cosine schedule needs ticks ≥ 1"),
    assignment("schedule.warm_up=-1", "a warm-up lasts at least one tick, not -1"),
    assignment("schedule.nope=1", "schedule 'cosine' has no option 'nope'; it has ticks, final"),
    assignment("label_smoothing=2", "label_smoothing lies in [0, 1), not 2"),
    assignment("task_options.nope=1", "task 'waves' has no option 'nope'; it has length, size, speed, directions"),
    assignment("task_options.seed=1", "task_options has no option 'seed': the run as a whole says it"),
    assignment("task_options.name=1", "task 'waves' has no option 'name'"),
    assignment("task_options.directions=5", "directions must be 4 or 8, not 5"),
    assignment("task_options.speed=-1", "the speed must not be negative"),
    assignment("task_options.speed=fast", "task 'waves': speed must be a number, not 'fast'"),
    assignment("task_options.length=8", "clips of 8 frames train no bottom unit of vgg5-skip, depth 5: at least 9"),
    assignment("model_options.nope=1", "model 'vgg5-skip' has no option 'nope'; it has width"),
    assignment("model_options.dtype=float64", "model_options has no option 'dtype': the run as a whole says it"),
    assignment("model_options.classes=7", "model_options has no option 'classes': the run as a whole says it"),
    assignment("model_options.skip=conv1", "a skip edge is written 'conv1>conv4', not 'conv1'"),
    assignment("model_options.width=1.5", "width must be a whole number, not 1.5"),
    assignment("model_options.norm=no", "norm must be true or false, not 'no'"),
]


def refused(answer, words):
    """One or two lines that say this, exit code 2, no traceback."""
    code, out, err = answer
    assert code == 2
    assert out == ""
    assert words in err
    assert 1 <= len(err.splitlines()) <= 2
    assert err.startswith("sideways")
    assert "Traceback" not in err


@pytest.mark.parametrize(("arguments", "words"), REFUSED)
def test_bad_input_ends_with_exit_code_2_and_a_line_and_nothing_is_written(command, tmp_path, bad, arguments, words):
    refused(command("train", *[argument.format(bad=bad) for argument in arguments]), words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("videos", "words"),
    [
        ('["nowhere.mp4"]', "nowhere.mp4: no such file"),
        ('["{bad}/empty.mp4"]', "empty.mp4: the file is empty"),
        ('["{bad}/garbage.mp4"]', "garbage.mp4: ffmpeg finds no video in this file"),
        ('["{bad}"]', "is a folder, not a video file"),
        ('["{bad}/short.mp4"]', "its 12 frames, of which the last 4 are held out, are too few for clips of 18"),
        ("[]", "videos must be a list of at least one path, not []"),
        ("[3]", "videos must be a list, each entry a string or a path, not [3]"),
        ("nowhere.mp4", "videos must be a list, each entry a string or a path, not 'nowhere.mp4'"),
    ],
)
def test_videos_that_cannot_be_used_end_with_exit_code_2_and_nothing_is_written(command, tmp_path, bad, videos, words):
    refused(command("train", "pan-skip", "--set", f"task_options.videos={videos}".replace("{bad}", str(bad))), words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["summary"], "the following arguments are required: model; see sideways summary --help"),
        (["summary", "vgg9"], "unknown model 'vgg9'"),
        (["summary", "vgg8", "--size", "8", "8", "3"], "frames of (8, 8, 3) do not suit this model"),
        (["summary", "vgg8", "--size", "112"], "frames of (112,) do not suit this model"),
        (["summary", "vgg8", "--size", "0", "0", "0"], "frames of (0, 0, 0) do not suit this model"),
        (["summary", "vgg8", "--classes", "0"], "at least one class, not 0"),
        (["summary", "vgg8", "--set", "nope=1"], "model 'vgg8' has no option 'nope'"),
        (["summary", "vgg8", "--set", "name=1"], "model 'vgg8' has no option 'name'"),
        (["summary", "vgg8", "--set", "classes=1"], "--set classes: --size and --classes say this"),
        (["summary", "vgg8", "--set", "nope"], "--set takes"),
        (["demo", "--out", "."], ". exists and holds no demo: choose another --out"),
        (["demo", "--processes", "none"], "invalid int value: 'none'"),
        (["data", "check", "ucf101:x", "--split", "abc"], "--split must be the number of a split, or all, not 'abc'"),
        (["data", "make", "ucf101", "{bad}/file/sub"], "file/sub"),
        (["compare", "{bad}", "--out", "x.foo"], "--out: the plot is a .png, not x.foo"),
        (["evaluate", "x", "--out", "{bad}/file"], "file: a folder is wanted to write to, this is a file"),
        (["evaluate", "x"], "x: no such folder"),
        (["dance"], "invalid choice: 'dance'"),
        ([], "the following arguments are required: COMMAND; see sideways --help"),
    ],
)
def test_the_other_commands_refuse_bad_input_in_a_line_too(command, tmp_path, bad, arguments, words):
    refused(command(*[argument.format(bad=bad) for argument in arguments]), words)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_exists_is_left_alone(command, tmp_path):
    assert command("train", *QUICK, *MLP, "--name", "mine")[0] == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for more in ([], ["--seeds", 2]):
        answer = command("train", *QUICK, *MLP, "--name", "mine", *more)
        refused(answer, "runs/mine exists already: choose another --name, or remove it")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_cupy_where_there_is_none_is_one_line_that_says_what_is_missing(command, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # as if it were not installed
    refused(command("train", *QUICK, "--backend", "cupy"), "backend 'cupy': CuPy is not installed; pip install ")
    assert list(tmp_path.iterdir()) == []


def test_divergence_ends_with_exit_code_1_and_a_line(command, tmp_path):
    code, _, err = command("train", *QUICK, *MLP, "--lr", "1e30", "--optimizer", "sgd", "--name", "wild")
    assert code == 1
    assert re.search(
        r"sideways: the loss is \w+ in clip [12] \(step \d+\): unit '\w+' .*; lower the learning rate\n$", err
    )
    assert not (tmp_path / "runs" / "wild" / "results.json").exists()


def test_an_interrupt_ends_with_exit_code_130_and_a_line(command, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(sideways.training, "train_on", interrupt)
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
