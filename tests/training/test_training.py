"""Runs: the same run again to the last bit, what a run directory holds, and how a run ends that goes wrong."""

import json
import re
from dataclasses import asdict, replace

import matplotlib.image
import numpy
import pytest

from sideways.errors import DivergedError, InputError
from sideways.training.build import build_network, build_task
from sideways.training.config import Config
from sideways.training.report.result import read_result
from sideways.training.run import train
from sideways.training.several import train_many
from tests.training.runs import TINY, lines, parameters, same


@pytest.fixture
def unmeasured(monkeypatch):
    """Let runs measure no memory after their training: most tests do not look at it."""
    monkeypatch.setattr("sideways.training.run._memory_of_clip", lambda trainer: None)


@pytest.mark.usefixtures("undrawn", "unmeasured")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rule", ["sideways", "backprop", "bptt"])
def test_the_same_seed_gives_the_same_losses_evaluation_and_parameters_bit_for_bit(tmp_path, rule, dtype):
    config = replace(TINY, rule=rule, dtype=dtype, evaluate_every=2)
    results = [train(config, tmp_path / name) for name in "ab"]
    assert (tmp_path / "a" / "metrics.jsonl").read_bytes() == (tmp_path / "b" / "metrics.jsonl").read_bytes()
    assert same(parameters(tmp_path / "a"), parameters(tmp_path / "b"))
    assert (results[0].loss, results[0].accuracy) == (results[1].loss, results[1].accuracy)
    train(replace(config, seed=2), tmp_path / "c")
    assert lines(tmp_path / "c", "train")[0]["loss"] != lines(tmp_path / "a", "train")[0]["loss"]


def test_a_run_without_a_report_has_the_results_and_parameters_of_one_with_it(tmp_path):
    reported = train(TINY, tmp_path / "with")
    result = train(TINY, tmp_path / "without", report=False)
    for name in ("accuracy", "accuracy_error", "loss", "samples"):
        assert getattr(result, name) == getattr(reported, name)
    assert read_result(tmp_path / "without" / "results.json") == result
    assert same(parameters(tmp_path / "with"), parameters(tmp_path / "without"))
    drawn = {path.name for path in (tmp_path / "with").rglob("*.*") if path.suffix in (".png", ".md")}
    assert drawn == {"accuracy.png", "loss.png", "confusion.png", "report.md"}
    assert not [*(tmp_path / "without").rglob("*.png"), *(tmp_path / "without").rglob("*.md")]


@pytest.mark.usefixtures("undrawn", "unmeasured")
def test_runs_side_by_side_in_two_processes_are_the_runs_in_this_process_bit_for_bit(tmp_path):
    configs = [replace(TINY, seed=seed) for seed in (1, 2, 3)]
    one = train_many([(c, tmp_path / f"one-{c.seed}") for c in configs], 1, "in one process")
    two = train_many([(c, tmp_path / f"two-{c.seed}") for c in configs], 2, "in two processes")
    assert [result.directory for result in two] == [str(tmp_path / f"two-{seed}") for seed in (1, 2, 3)]
    assert [result.loss for result in two] == [result.loss for result in one]
    for c in configs:
        assert same(parameters(tmp_path / f"one-{c.seed}"), parameters(tmp_path / f"two-{c.seed}"))


def test_the_first_error_of_a_run_side_by_side_is_the_error_of_all(tmp_path):
    wrong = replace(TINY, seed=2, task_options={"length": 3, "size": 8})
    with pytest.raises(InputError, match="clips of 3 frames train no bottom unit"):
        train_many([(TINY, tmp_path / "right"), (wrong, tmp_path / "wrong")], 2, "both")
    assert not (tmp_path / "wrong").exists()


@pytest.mark.usefixtures("undrawn", "unmeasured")
@pytest.mark.parametrize(
    ("rule", "update_every"),
    [("sideways", "clip"), ("sideways", 2), ("backprop", "clip"), ("backprop", 2), ("bptt", "clip")],
)
def test_evaluation_touches_no_training_state(tmp_path, rule, update_every):
    config = replace(TINY, rule=rule, update_every=update_every)
    if rule == "sideways":
        config = replace(config, boundary="stream")  # messages under way must survive an evaluation between clips
    train(config, tmp_path / "never")
    train(replace(config, evaluate_every=1), tmp_path / "always")
    assert [len(lines(tmp_path / name, "evaluation")) for name in ("never", "always")] == [1, 4]
    assert lines(tmp_path / "never", "train") == lines(tmp_path / "always", "train")
    assert lines(tmp_path / "never", "evaluation") == lines(tmp_path / "always", "evaluation")[-1:]
    assert same(parameters(tmp_path / "never"), parameters(tmp_path / "always"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run: (directory, result, calls of its progress)."""
    directory = tmp_path_factory.mktemp("runs") / "tiny"
    calls = []
    result = train(replace(TINY, evaluate_every=2), directory, lambda clips, line: calls.append((clips, line)))
    return directory, result, calls


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


@pytest.mark.usefixtures("undrawn", "unmeasured")
def test_config_json_repeats_the_run(run, tmp_path):
    directory, result, _ = run
    config = Config.from_tables(json.loads((directory / "config.json").read_text()), "config.json")
    assert config == replace(TINY, evaluate_every=2)
    again = train(config, tmp_path / "again")
    assert again.loss == result.loss
    assert same(parameters(directory), parameters(tmp_path / "again"))


def test_metrics_jsonl_has_a_line_for_each_clip_and_each_evaluation(run):
    directory, result, calls = run
    trained, evaluated = lines(directory, "train"), lines(directory, "evaluation")
    assert [(line["clip"], line["tick"]) for line in trained] == [(1, 9), (2, 18), (3, 27), (4, 36)]
    assert [(line["clip"], line["tick"]) for line in evaluated] == [(2, 18), (4, 36)]
    assert all(set(line) == {"kind", "clip", "tick", "loss", "accuracy"} for line in trained + evaluated)
    assert all(0 <= line["accuracy"] <= 1 and line["loss"] > 0 for line in trained + evaluated)
    assert (evaluated[-1]["loss"], evaluated[-1]["accuracy"]) == (result.loss, result.accuracy)
    assert [clips for clips, _ in calls] == [1, 1, 1, 1]
    assert calls[0][1] == f"loss {trained[0]['loss']:.3f}  accuracy {trained[0]['accuracy']:.2f}"


def test_plots_are_png_images_with_something_drawn(run):
    directory, _, _ = run
    for name in ("loss", "accuracy"):
        path = directory / "plots" / f"{name}.png"
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        image = matplotlib.image.imread(path)
        assert image.shape[:2] == (604, 921)
        colours = numpy.round(255 * image).astype(numpy.int64) @ [256**k for k in range(image.shape[-1])]
        assert len(numpy.unique(colours)) > 50


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
        {"boundary": "stream", "task_options": {"length": 4}},  # no frame reaches the top within a clip
        {"rule": "bptt", "task_options": {"length": 4}},
        {"rule": "bptt", "boundary": "stream"},
        {"rule": "backprop", "target_delay": 3},
        {"model_options": {"pool": -2}},
    ):
        with pytest.raises(InputError):
            train(replace(TINY, **wrong), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("clips", "update_every", "stops_in"), [(1, "clip", 1), (3, "clip", 2), (3, 1, 1)])
def test_a_run_that_diverges_stops_and_names_a_unit_and_the_step(tmp_path, clips, update_every, stops_in):
    config = replace(TINY, model="mlp", model_options={}, clips=clips, optimizer={"name": "sgd", "learning_rate": 1e30})
    config = replace(config, update_every=update_every)
    with pytest.raises(DivergedError) as stopped:
        train(config, tmp_path / "run")
    message = str(stopped.value)
    assert re.fullmatch(
        rf"the loss is (nan|inf) in clip {stops_in} \(step {9 * stops_in}\): "
        r"(the parameters of [\w, ]*classifier are not finite|unit 'classifier' overflows); lower the learning rate",
        message,
    )
    assert not (tmp_path / "run" / "results.json").exists()
