"""Bad input ends with exit code 2 and one line that says why; nothing is written."""

import sys

import numpy
import pytest
from command_line import MLP, QUICK, refused

from sideways.data import write_video


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    """A folder of damaged files, and of files of the wrong kind."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "broken.toml").write_text("model = = 3")
    (folder / "unknown.toml").write_text("modell = 'mlp'")
    (folder / "table.toml").write_text("optimizer = 3")
    (folder / "latin.toml").write_bytes(b"summary = '\xff'")
    (folder / "folder.toml").mkdir()
    (folder / "file").write_text("here")
    numpy.save(folder / "array.npy", numpy.zeros(3))
    numpy.savez_compressed(folder / "whole.npz", a=numpy.arange(1000.0))
    damaged = bytearray((folder / "whole.npz").read_bytes())
    damaged[200:260] = bytes(60)
    (folder / "damaged.npz").write_bytes(damaged)
    (folder / "empty.mp4").touch()
    (folder / "garbage.mp4").write_bytes(numpy.random.default_rng(0).bytes(5000))
    frames = numpy.random.default_rng(0).integers(0, 256, (12, 120, 160, 3), dtype=numpy.uint8)
    write_video(folder / "short.mp4", frames)
    return folder


def assignment(text, words, *more):
    return pytest.param(["--set", text, *more], words, id=text)


REFUSED = [
    (["waves"], "unknown recipe 'waves': did you mean waves-"),
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
    (
        ["--clips", "many"],
        "argument --clips: a whole number below 2**63 is wanted, not 'many'; see sideways train --help",
    ),
    (["--batch", "0"], "batch must be a whole number of at least 1, not 0"),
    (["--evaluation-clips", "0"], "task 'waves' has no end: evaluation_clips must be at least 1"),
    (["--evaluate-every", "-1"], "evaluate_every must be a whole number of at least 0, not -1"),
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
    (["--set", "optimizer=adam", "--lr", "0.01"], "optimizer must be a table, not 'adam'"),
    (["--horizon", "2", "--set", "task_options.length=abc"], "task_options.length is a number of frames, not 'abc'"),
    (["--threads", "100000000000000000000"], "argument --threads: a whole number below 2**63 is wanted"),
    (["--init", "{bad}/array.npy"], "array.npy: not a file of parameters"),
    (["--init", "{bad}/damaged.npz"], "damaged.npz: conv1/0.weight is missing"),
    (
        ["waves-skip", "--data", "ucf101:/tmp"],
        "recipe waves-skip is for task 'waves' (speed) and takes no --data; videos-small-delayed does",
    ),
    (["--data", "ucf101:/nowhere"], "there is no folder /nowhere"),
    (
        ["--boundary", "stream", "--set", "task_options.length=6", "--cosine-every", "1"],
        "at least 9 are needed (--set task_options.length=…), or no --cosine-every",
    ),
    assignment("clips", "--set takes TABLE.KEY=VALUE, such as task_options.speed=1.5, not 'clips'"),
    assignment("=3", "--set takes TABLE.KEY=VALUE"),
    assignment("a.b.c=1", "--set takes TABLE.KEY=VALUE"),
    assignment('clips="x"', "clips must be a whole number, not 'x'"),
    assignment("batch=true", "batch must be a whole number, not True"),
    assignment("seed=1.5", "seed must be a whole number, not 1.5"),
    assignment("nonsense=1", "has no setting 'nonsense'"),
    assignment("nonsense.x=1", "has no setting 'nonsense'"),
    assignment("clips.x=1", "--set clips.x=1: clips is not a table"),
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
    assignment("loss=log-squared", "loss 'log-squared' is for predictors of frames"),
    assignment("loss=cubed", "unknown loss 'cubed': choose one of squared, log-squared"),
    assignment("label_smoothing=2", "label_smoothing lies in [0, 1), not 2"),
    assignment("task_options.nope=1", "task 'waves' has no option 'nope'; it has length, size, speed, directions"),
    assignment("task_options.seed=1", "task_options has no option 'seed': set `seed` at the top level of the recipe"),
    assignment("task_options.name=1", "task 'waves' has no option 'name'"),
    assignment("task_options.directions=5", "directions must be 4 or 8, not 5"),
    assignment("task_options.speed=-1", "the speed must not be negative"),
    assignment("task_options.speed=fast", "task 'waves': speed must be a number, not 'fast'"),
    assignment("task_options.length=8", "clips of 8 frames train no bottom unit of vgg5-skip, depth 5: at least 9"),
    assignment("model_options.nope=1", "model 'vgg5-skip' has no option 'nope'; it has width"),
    assignment(
        "model_options.dtype=float64", "model_options has no option 'dtype': set `dtype` at the top level of the recipe"
    ),
    assignment("model_options.classes=7", "model_options has no option 'classes': they follow from the task"),
    assignment("model_options.skip=conv1", "a skip edge is written 'conv1>conv4', not 'conv1'"),
    assignment("model_options.width=1.5", "width must be a whole number, not 1.5"),
    assignment("model_options.norm=no", "norm must be true or false, not 'no'"),
]


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
        (["summary", "vgg8", "--set", "classes=1"], "--set classes: use --size and --classes instead"),
        (["summary", "vgg8", "--set", "nope"], "--set takes"),
        (["demo", "--out", "."], ". exists and holds no demo: choose another --out"),
        (["demo", "--processes", "none"], "invalid int value: 'none'"),
        (["data", "check", "ucf101:x", "--split", "abc"], "--split must be the number of a split, or all, not 'abc'"),
        (["data", "make", "ucf101", "{bad}/file/sub"], "file/sub"),
        (["data", "make", "ucf101", "out", "--seed", "-1"], "--seed: 0 or a greater number is wanted, not '-1'"),
        (["data", "check", "folder:{bad}", "--fps", "0"], "--fps: a number above 0 is wanted, not '0'"),
        (["data", "check", "folder:{bad}", "--fps", "nan"], "--fps: a number above 0 is wanted, not 'nan'"),
        (["data", "check", "folder:{bad}", "--length", "-5"], "--length: a number of at least 1 is wanted, not '-5'"),
        (["bench", "pipeline", "--ranks", "-1"], "--ranks: a number of at least 1 is wanted, not '-1'"),
        (["bench", "pipeline", "--ticks", "0"], "--ticks: a number of at least 1 is wanted, not '0'"),
        (["bench", "latency", "--period-ms", "nan"], "--period-ms: a number above 0 is wanted, not 'nan'"),
        (["bench", "step", "--batch", "x"], "--batch: a number of at least 1 is wanted, not 'x'"),
        (["bench", "memory", "--lengths", "0"], "--lengths: a number of at least 1 is wanted, not '0'"),
        (
            ["bench", "decode", "folder:{bad}", "--workers", "-1"],
            "--workers: 0 or a greater number is wanted, not '-1'",
        ),
        (["compare", "{bad}", "--out", "x.foo"], "--out: the plot is a .png, not x.foo"),
        (["evaluate", "x", "--out", "{bad}/file"], "file: --out takes a folder, this is a file"),
        (["evaluate", "x"], "x: no such folder"),
        (["dance"], "invalid choice: 'dance'"),
        ([], "the following arguments are required: COMMAND; see sideways --help"),
    ],
)
def test_the_other_commands_refuse_bad_input_in_a_line_too(command, tmp_path, bad, arguments, words):
    refused(command(*[argument.format(bad=bad) for argument in arguments]), words)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_exists_is_left_alone(command, tmp_path):
    assert command("train", *QUICK, *MLP, "--name", "first")[0] == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for more in ([], ["--seeds", 2]):
        answer = command("train", *QUICK, *MLP, "--name", "first", *more)
        refused(answer, "runs/first exists already: choose another --name, or remove it")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_cupy_where_there_is_none_is_one_line_that_says_what_is_missing(command, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # `import cupy` fails as if CuPy were not installed
    refused(command("train", *QUICK, "--backend", "cupy"), "backend 'cupy': CuPy is not installed; pip install ")
    assert list(tmp_path.iterdir()) == []
