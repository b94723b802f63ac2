"""The loop: the same run again to the last bit, what it writes, what it learns, and what it needs."""

import json
import re
from dataclasses import asdict, replace

import matplotlib.image
import numpy
import pytest

from sideways.data import write_video
from sideways.errors import DivergedError, InputError
from sideways.training.build import build_network, build_rule, build_task
from sideways.training.config import Config
from sideways.training.memory import peak_of_clip
from sideways.training.recipes import load_recipe
from sideways.training.run import train
from sideways.training.several import train_many

TINY = Config(
    model="vgg5-skip",
    task="waves",
    clips=4,
    batch=4,
    evaluation_clips=2,
    model_options={"width": 4},
    task_options={"length": 9, "size": 8},
)


def lines(directory, kind):
    every = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return [line for line in every if line["kind"] == kind]


def parameters(directory):
    with numpy.load(directory / "parameters.npz") as file:
        return dict(file)


def same_bits(first, second):
    return first.keys() == second.keys() and all(first[key].tobytes() == second[key].tobytes() for key in first)


# Again


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rule", ["sideways", "backprop", "bptt"])
def test_the_same_seed_gives_the_same_losses_evaluation_and_parameters_bit_for_bit(tmp_path, rule, dtype):
    config = replace(TINY, rule=rule, dtype=dtype, evaluate_every=2)
    results = [train(config, tmp_path / name) for name in "ab"]
    assert (tmp_path / "a" / "metrics.jsonl").read_bytes() == (tmp_path / "b" / "metrics.jsonl").read_bytes()
    assert same_bits(parameters(tmp_path / "a"), parameters(tmp_path / "b"))
    assert (results[0].loss, results[0].accuracy) == (results[1].loss, results[1].accuracy)
    train(replace(config, seed=2), tmp_path / "c")
    assert lines(tmp_path / "c", "train")[0]["loss"] != lines(tmp_path / "a", "train")[0]["loss"]


def test_runs_side_by_side_in_two_processes_are_the_runs_in_this_process_bit_for_bit(tmp_path):
    configs = [replace(TINY, seed=seed) for seed in (1, 2, 3)]
    here = train_many([(c, tmp_path / f"here-{c.seed}") for c in configs], 1, "here")
    there = train_many([(c, tmp_path / f"there-{c.seed}") for c in configs], 2, "there")
    assert [result.directory for result in there] == [str(tmp_path / f"there-{seed}") for seed in (1, 2, 3)]
    assert [result.loss for result in there] == [result.loss for result in here]
    for c in configs:
        assert same_bits(parameters(tmp_path / f"here-{c.seed}"), parameters(tmp_path / f"there-{c.seed}"))


def test_the_first_error_of_a_run_side_by_side_is_the_error_of_all(tmp_path):
    wrong = replace(TINY, seed=2, task_options={"length": 3, "size": 8})
    with pytest.raises(InputError, match="clips of 3 frames train no bottom unit"):
        train_many([(TINY, tmp_path / "right"), (wrong, tmp_path / "wrong")], 2, "both")
    assert not (tmp_path / "wrong").exists()


@pytest.mark.parametrize(
    ("rule", "update_every"),
    [("sideways", "clip"), ("sideways", 2), ("backprop", "clip"), ("backprop", 2), ("bptt", "clip")],
)
def test_evaluation_touches_no_training_state(tmp_path, rule, update_every):
    config = replace(TINY, rule=rule, update_every=update_every)
    if rule == "sideways":
        config = replace(config, boundary="stream")  # what is under way between clips must stay there
    train(config, tmp_path / "never")
    train(replace(config, evaluate_every=1), tmp_path / "always")
    assert [len(lines(tmp_path / name, "evaluation")) for name in ("never", "always")] == [1, 4]
    assert lines(tmp_path / "never", "train") == lines(tmp_path / "always", "train")
    assert lines(tmp_path / "never", "evaluation") == lines(tmp_path / "always", "evaluation")[-1:]
    assert same_bits(parameters(tmp_path / "never"), parameters(tmp_path / "always"))


# What is written


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "tiny"
    seen = []
    result = train(replace(TINY, evaluate_every=2), directory, lambda done, line: seen.append((done, line)))
    return directory, result, seen


def test_a_run_directory_holds_what_the_readme_lists_and_nothing_else(run):
    directory, _, _ = run
    assert sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()) == [
        *(f"checkpoints/step-00000036/conv{i}.npz" for i in range(1, 5)),
        "checkpoints/step-00000036/head.npz",
        "checkpoints/step-00000036/meta.json",
        "config.json",
        "metrics.jsonl",
        "parameters.npz",
        "plots/accuracy.png",
        "plots/confusion.png",
        "plots/loss.png",
        "report.md",
        "results.json",
    ]


def test_config_json_repeats_the_run(run, tmp_path):
    directory, result, _ = run
    config = Config.from_tables(json.loads((directory / "config.json").read_text()), "config.json")
    assert config == replace(TINY, evaluate_every=2)
    again = train(config, tmp_path / "again")
    assert again.loss == result.loss
    assert same_bits(parameters(directory), parameters(tmp_path / "again"))


def test_metrics_jsonl_has_a_line_for_each_clip_and_each_evaluation(run):
    directory, result, seen = run
    trained, evaluated = lines(directory, "train"), lines(directory, "evaluation")
    assert [(line["clip"], line["tick"]) for line in trained] == [(1, 9), (2, 18), (3, 27), (4, 36)]
    assert [(line["clip"], line["tick"]) for line in evaluated] == [(2, 18), (4, 36)]
    assert all(set(line) == {"kind", "clip", "tick", "loss", "accuracy"} for line in trained + evaluated)
    assert all(0 <= line["accuracy"] <= 1 and line["loss"] > 0 for line in trained + evaluated)
    assert (evaluated[-1]["loss"], evaluated[-1]["accuracy"]) == (result.loss, result.accuracy)
    assert [done for done, _ in seen] == [1, 1, 1, 1]
    assert seen[0][1] == f"loss {trained[0]['loss']:.3f}  accuracy {trained[0]['accuracy']:.2f}"


def test_plots_are_png_images_with_something_drawn(run):
    directory, _, _ = run
    for name in ("loss", "accuracy"):
        path = directory / "plots" / f"{name}.png"
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        image = matplotlib.image.imread(path)
        assert image.shape[:2] == (504, 768)
        assert len(numpy.unique(image.reshape(-1, image.shape[-1]), axis=0)) > 50


def test_results_json_is_the_result(run):
    directory, result, _ = run
    assert json.loads((directory / "results.json").read_text()) == asdict(result)
    assert (result.samples, result.chance, result.directory) == (8, 0.25, str(directory))
    assert result.accuracy_error == pytest.approx((result.accuracy * (1 - result.accuracy) / 8) ** 0.5)
    assert result.milliseconds_per_frame > 0


def test_parameters_npz_names_every_parameter_and_running_statistic_by_its_unit(run):
    directory, _, _ = run
    network = build_network(TINY, build_task(TINY).frame_shape, 4)
    arrays = network.parameters, network.state
    expected = {f"{unit}/{key}": a.shape for part in arrays for unit in part for key, a in part[unit].items()}
    assert {key: array.shape for key, array in parameters(directory).items()} == expected
    assert {"conv1/0.weight", "conv4/0.bias", "head/1.weight"} <= set(expected)
    assert len(set(expected)) == sum(len(part[unit]) for part in arrays for unit in part)


def test_a_run_never_writes_into_a_directory_that_exists(run):
    directory, _, _ = run
    before = {path: path.stat().st_mtime_ns for path in directory.rglob("*")}
    with pytest.raises(InputError, match="exists already"):
        train(TINY, directory)
    assert {path: path.stat().st_mtime_ns for path in directory.rglob("*")} == before


def test_bad_input_is_found_before_anything_is_written(tmp_path):
    for wrong in (
        {"model": "vgg9"},
        {"optimizer": {"name": "adam", "learning_rate": -1.0}},
        {"task": "pan", "task_options": {"videos": ["nowhere.mp4"]}},
        {"boundary": "stream", "task_options": {"length": 4}},  # never reaches the top
        {"rule": "bptt", "task_options": {"length": 4}},
        {"rule": "bptt", "boundary": "stream"},
        {"rule": "backprop", "target_delay": 3},
        {"model_options": {"pool": -2}},
    ):
        with pytest.raises(InputError):
            train(replace(TINY, **wrong), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


# When it goes wrong


@pytest.mark.parametrize(("clips", "update_every", "found_in"), [(1, "clip", 1), (3, "clip", 2), (3, 1, 1)])
def test_a_run_that_diverges_stops_and_names_a_unit_and_the_step(tmp_path, clips, update_every, found_in):
    config = replace(TINY, model="mlp", model_options={}, clips=clips, optimizer={"name": "sgd", "learning_rate": 1e30})
    config = replace(config, update_every=update_every)
    with pytest.raises(DivergedError) as stopped:
        train(config, tmp_path / "run")
    message = str(stopped.value)
    assert re.fullmatch(
        rf"the loss is (nan|inf) in clip {found_in} \(step {9 * found_in}\): "
        r"(the parameters of [\w, ]*classifier are not finite|unit 'classifier' overflows); lower the learning rate",
        message,
    )
    assert not (tmp_path / "run" / "results.json").exists()


# What learns


def test_units_with_rate_0_keep_their_parameters_and_the_others_do_not(tmp_path):
    frozen = {"conv1": 0, "conv3": 0.0}
    config = replace(TINY, rates=frozen, optimizer={"name": "adam", "learning_rate": 1e-2, "weight_decay": 0.1})
    train(config, tmp_path / "run")
    start = build_network(config, build_task(config).frame_shape, 4).parameters
    trained = parameters(tmp_path / "run")
    for unit, arrays in start.items():
        for key, array in arrays.items():
            assert numpy.array_equal(array, trained[f"{unit}/{key}"]) == (unit in frozen), (unit, key)


@pytest.fixture(scope="module")
def stripes(tmp_path_factory):
    """Two films that one frame tells apart: stripes that stand and stripes that lie."""
    folder = tmp_path_factory.mktemp("films")
    bright = numpy.where(numpy.arange(32) // 2 % 2, 200, 40).astype(numpy.uint8)
    standing = numpy.tile(bright[None, :, None], (32, 1, 3))
    for name, picture in (("standing", standing), ("lying", standing.swapaxes(0, 1))):
        write_video(folder / f"{name}.avi", [picture] * 40, codec="ffv1", pix_fmt_out="bgr0")
    return [str(folder / "standing.avi"), str(folder / "lying.avi")]


@pytest.fixture
def easy(stripes):
    """A config that tells the two films apart."""
    options = {"videos": stripes, "length": 9, "size": 8, "lines": 32}
    return replace(TINY, model="vgg5", task="which-clip", task_options=options, clips=25, batch=8, evaluation_clips=4)


def losses(directory):
    return [line["loss"] for line in lines(directory, "train")]


@pytest.mark.parametrize(
    "rule",
    [
        {"rule": "sideways"},
        {"rule": "sideways", "boundary": "stream"},
        {"rule": "sideways", "update_every": 1, "optimizer": {"name": "adam", "learning_rate": 2e-3}},
        {"rule": "sideways", "target_delay": 0},
        {"rule": "backprop"},
        {"rule": "bptt"},
    ],
    ids=lambda rule: "-".join(map(str, rule.values())) if len(rule) < 3 else "every tick",
)
def test_every_rule_learns_what_one_frame_tells(tmp_path, easy, rule):
    config = replace(easy, optimizer={"name": "adam", "learning_rate": 1e-2})
    result = train(replace(config, **rule), tmp_path / "run")
    assert result.accuracy >= 0.95
    assert numpy.mean(losses(tmp_path / "run")[-5:]) < 0.5 * losses(tmp_path / "run")[0]


@pytest.mark.parametrize(
    "optimizer",
    [
        {"name": "sgd", "learning_rate": 0.1},
        {"name": "sgd", "learning_rate": 0.02, "momentum": 0.9, "nesterov": True, "clip_norm": 1.0},
        {"name": "adam", "learning_rate": 1e-2, "weight_decay": 1e-4},
        {"name": "adam", "learning_rate": 1e-2, "beta1": 0.5, "beta2": 0.99, "epsilon": 1e-6},
    ],
    ids=["sgd", "momentum", "adam", "adam with options"],
)
def test_every_optimizer_learns_what_one_frame_tells(tmp_path, easy, optimizer):
    result = train(replace(easy, optimizer=optimizer), tmp_path / "run")
    assert result.accuracy >= 0.95
    assert numpy.mean(losses(tmp_path / "run")[-5:]) < 0.5 * losses(tmp_path / "run")[0]


@pytest.mark.parametrize(
    "schedule",
    [
        {"name": "constant"},
        {"name": "step", "every": 100, "factor": 0.5},
        {"name": "cosine"},
        {"name": "cosine", "ticks": 200, "final": 0.1, "warm_up": 30},
        {},
    ],
    ids=["constant", "step", "cosine", "warm-up", "none"],
)
def test_every_schedule_learns_what_one_frame_tells(tmp_path, easy, schedule):
    config = replace(easy, schedule=schedule, optimizer={"name": "adam", "learning_rate": 1e-2})
    result = train(config, tmp_path / "run")
    assert result.accuracy >= 0.95
    assert numpy.mean(losses(tmp_path / "run")[-5:]) < 0.5 * losses(tmp_path / "run")[0]


FAST = {"clips": 40, "batch": 16, "evaluation_clips": 8, "optimizer": {"name": "adam", "learning_rate": 4e-3}}


def with_recipe(name, **changes):
    return replace(Config.from_tables(load_recipe(name), name), **changes)


def test_skip_sideways_learns_the_direction_of_waves(tmp_path):
    result = train(with_recipe("waves-skip", **FAST), tmp_path / "run")
    assert result.accuracy >= 0.95
    assert result.samples == 128


def test_the_chain_cannot_see_the_direction_of_waves(tmp_path):
    result = train(with_recipe("waves-chain", **FAST), tmp_path / "run")
    assert result.accuracy <= 0.40  # chance .25, standard error .04


@pytest.mark.parametrize(("recipe", "most"), [("shapes-skip", 1.1), ("pan-skip", 1.25)])
def test_skip_sideways_does_better_than_guessing_on_the_other_tasks(tmp_path, recipe, most):
    changes = FAST | {"clips": 30}
    train(with_recipe(recipe, **changes), tmp_path / "run")
    assert numpy.mean(losses(tmp_path / "run")[-5:]) < most  # guessing: ln 4 = 1.386


# What it needs


def memory(rule, length):
    config = replace(TINY, rule=rule, batch=8, task_options={"length": length, "size": 16}, model_options={"width": 8})
    task = build_task(config)
    rule = build_rule(config, task, build_network(config, task.frame_shape, len(task.classes)))
    clip = task.clip("train", 0, 8)
    return peak_of_clip(rule, clip.frames, clip.targets)


def test_activation_memory_of_sideways_is_flat_in_the_length_of_a_clip_and_that_of_bptt_grows_with_it():
    sideways, longer = memory("sideways", 18), memory("sideways", 36)
    bptt, longer_bptt = memory("bptt", 18), memory("bptt", 36)
    assert longer == pytest.approx(sideways, rel=0.05)
    assert bptt > 4 * sideways
    assert longer_bptt > 1.8 * bptt


def test_measuring_memory_changes_nothing():
    config = TINY
    task = build_task(config)
    network = build_network(config, task.frame_shape, len(task.classes))
    rule = build_rule(config, task, network)
    before = {unit: {key: array.copy() for key, array in arrays.items()} for unit, arrays in network.parameters.items()}
    clip = task.clip("train", 0, 4)
    peak_of_clip(rule, clip.frames, clip.targets)
    assert rule.ticks == 0
    for unit, arrays in network.parameters.items():
        assert same_bits(arrays, before[unit])
