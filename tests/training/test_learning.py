"""Learning: every rule, optimizer and schedule learns an easy task, and Skip-Sideways the direction of motion."""

from dataclasses import replace

import numpy
import pytest

from sideways.data import write_video
from sideways.training.build import build_network, build_task
from sideways.training.config import Config
from sideways.training.recipes import load_recipe
from sideways.training.run import train
from tests.training.runs import TINY, lines, parameters

pytestmark = pytest.mark.usefixtures("undrawn", "quickly")


@pytest.fixture
def quickly(monkeypatch):
    """Let runs measure no memory."""
    monkeypatch.setattr("sideways.training.run._memory_of_clip", lambda trainer: None)


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
    """Two films that one frame tells apart: vertical stripes and horizontal stripes."""
    folder = tmp_path_factory.mktemp("films")
    bright = numpy.where(numpy.arange(32) // 2 % 2, 200, 40).astype(numpy.uint8)
    vertical = numpy.tile(bright[None, :, None], (32, 1, 3))
    for name, picture in (("vertical", vertical), ("horizontal", vertical.swapaxes(0, 1))):
        write_video(folder / f"{name}.avi", [picture] * 40, codec="ffv1", pix_fmt_out="bgr0")
    return [str(folder / "vertical.avi"), str(folder / "horizontal.avi")]


@pytest.fixture
def easy(stripes):
    """The config of a task that one frame solves: tell the two films apart."""
    options = {"videos": stripes, "length": 9, "size": 8, "lines": 32}
    return replace(TINY, model="vgg5", task="which-clip", task_options=options, clips=25, batch=8, evaluation_clips=4)


def losses(directory):
    """The training losses of a run's clips."""
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


FAST = {"clips": 30, "batch": 16, "evaluation_clips": 8, "optimizer": {"name": "adam", "learning_rate": 4e-3}}


def with_recipe(name, **changes):
    """The config of a recipe, with changes."""
    return replace(Config.from_tables(load_recipe(name), name), **changes)


def test_skip_sideways_learns_the_direction_of_waves(tmp_path):
    result = train(with_recipe("waves-skip", **FAST), tmp_path / "run")
    assert result.accuracy >= 0.95
    assert result.samples == 128


def test_the_chain_cannot_see_the_direction_of_waves(tmp_path):
    result = train(with_recipe("waves-chain", **FAST), tmp_path / "run")
    assert result.accuracy <= 0.40  # chance .25, standard error .04


@pytest.mark.parametrize(("recipe", "batch", "most"), [("shapes-skip", 8, 1.1), ("pan-skip", 16, 1.25)])
def test_skip_sideways_does_better_than_guessing_on_the_other_tasks(tmp_path, recipe, batch, most):
    changes = FAST | {"batch": batch, "evaluation_clips": 1}
    train(with_recipe(recipe, **changes), tmp_path / "run")
    assert numpy.mean(losses(tmp_path / "run")[-5:]) < most  # guessing: ln 4 = 1.386
