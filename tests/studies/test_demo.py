"""The demo: what its tables and its plot claim, and that its runs need as little memory as the rules promise."""

import json

import numpy as np
import pytest

from sideways.errors import InputError
from sideways.studies import demo
from sideways.training.build import build_network, build_rule, build_task
from sideways.training.config import Config
from sideways.training.memory import peak_of_clip
from sideways.training.recipes import load_recipe
from sideways.training.report import plots


@pytest.fixture
def two_runs(tmp_path):
    """A run and its repetition, with equal parameters; a function that writes those of the second."""
    arrays = {"conv1/0.weight": np.array([0.0, 1.0], np.float32), "head/1.bias": np.array([np.nan])}

    def write(name, arrays):
        (tmp_path / name).mkdir(exist_ok=True)
        np.savez(tmp_path / name / "parameters.npz", **arrays)
        return tmp_path / name

    return write("one", arrays), write("two", arrays), lambda **changed: write("two", arrays | changed)


def test_equal_bits_are_called_equal(two_runs):
    one, two, _ = two_runs
    assert demo.compared(one, two) == (
        "Two ranks and one process have learnt the same parameters, bit for bit (compared: 2 arrays)."
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"conv1/0.weight": np.array([-0.0, 1.0], np.float32)},  # equal numbers, other bits
        {"conv1/0.weight": np.array([0.0, np.nextafter(np.float32(1), np.float32(2))], np.float32)},
        {"conv1/0.weight": np.array([[0.0, 1.0]], np.float32)},
        {"conv1/0.weight": np.array([0.0, 1.0])},
        {"extra/0.bias": np.zeros(1)},
    ],
    ids=["sign of zero", "last bit", "shape", "dtype", "another array"],
)
def test_a_single_other_bit_is_named(two_runs, changed):
    one, two, write = two_runs
    write(**changed)
    for pair in ((one, two), (two, one)):
        assert demo.compared(*pair) == (
            f"Two ranks and one process have NOT learnt the same parameters: {next(iter(changed))} differ."
        )


def test_without_mpirun_the_demo_ends_before_it_trains_or_removes_anything(tmp_path, monkeypatch):
    def refuse(ranks):
        raise InputError("there is no mpirun")

    kept = tmp_path / "waves-chain" / "config.json"
    kept.parent.mkdir()
    kept.write_text("{}")
    monkeypatch.setattr(demo, "command_of", refuse)
    with pytest.raises(InputError, match="there is no mpirun"):
        demo.demo(tmp_path, quick=True, processes=1)
    assert kept.exists()


@pytest.fixture(scope="module")
def rules():
    """A function that builds the rule of a run of the demo, and a clip to train on."""

    def build(variant):
        config, _ = demo.job(f"waves-{variant}", 50, demo.Path("unused"), quick=False)
        task = build_task(config)
        rule = build_rule(config, task, build_network(config, task.frame_shape, len(task.classes)))
        return rule, task.clip("train", 0, config.batch)

    return build


@pytest.mark.parametrize("variant, most", [("delayed", 1.3), ("marked", 1.2)])
def test_delayed_takes_little_more_memory_than_skip_sideways_in_the_demo(rules, variant, most):
    peaks = {}
    for name in ("skip", variant):
        rule, clip = rules(name)
        peaks[name] = peak_of_clip(rule, clip.frames, clip.targets)
    assert peaks["skip"] < peaks[variant] < most * peaks["skip"]


@pytest.mark.parametrize("task", demo.TASKS)
def test_every_9th_loss_is_every_loss_in_2d_minus_1_and_the_clips_have_18_frames(task):
    configs = {name: Config.from_tables(load_recipe(f"{task}-{v}"), v) for name, v in demo.RULES.items()}
    marked = configs["Delayed, every 9th loss (n = 2D-1)"]
    depth = build_network(marked, (16, 16, 1), 4).depth
    assert marked.learn_every == 9 == 2 * depth - 1 and depth == 5
    assert configs["Delayed, every loss (n = 1)"].learn_every == 1
    assert {config.task_options["length"] for config in configs.values()} == {18}
    skip = {name: config.model for name, config in configs.items() if "chain" not in name}
    assert set(skip.values()) == {"vgg5-skip"} and len(skip) == 4


def test_the_plot_has_a_curve_and_a_name_for_every_rule(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: figures.append(figure))
    runs = {}
    for i, (task, rule) in enumerate((task, rule) for task in ("a task", "another") for rule in demo.RULES):
        folder = tmp_path / str(i)
        folder.mkdir()
        lines = [{"kind": "train", "clip": clip, "accuracy": 0.01 * i} for clip in range(1, 21)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        runs.setdefault(task, {})[rule] = [folder]
    plots.plot_comparison(runs, {"a task": 0.25, "another": 0.25}, tmp_path / "plot.png")
    (figure,) = figures
    named = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert named == [*demo.RULES, "chance (0.25)"]
    for i, axes in enumerate(figure.axes):
        curves = [line for line in axes.lines if line.get_label() in demo.RULES]
        assert [line.get_label() for line in curves] == list(demo.RULES)
        for j, line in enumerate(curves):
            assert line.get_ydata() == pytest.approx(0.01 * (6 * i + j) * np.ones(20))
        looks = {(line.get_color(), line.get_linestyle()) for line in curves}
        assert len(looks) == len(demo.RULES)
