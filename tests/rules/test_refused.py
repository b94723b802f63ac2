"""Refusals of the rules, and their words: frames, targets, settings, clips that are too short."""

import copy

import numpy as np
import pytest
from graphs import chain, clip, equal, run

import sideways as sw


def test_a_flushed_clip_shorter_than_twice_the_depth_is_refused_with_both_numbers():
    rule = sw.Sideways(chain(depth=3), sw.SoftmaxCrossEntropy(), sw.SGD(0.1))
    run(rule, *clip(4))
    with pytest.raises(sw.InputError, match=r"4 frames.*at least 5"):
        rule.end_clip()


@pytest.mark.parametrize(
    ("frame", "target", "words"),
    [
        (np.zeros((2, 3, 2, 1)), [0, 1], r"\(N, 2, 2, 1\), got \(2, 3, 2, 1\)"),
        ([[0.0]], [0, 1], "got list"),
        (None, [0, 1], "got NoneType"),
        (np.full((2, 2, 2, 1), np.nan), [0, 1], "not finite"),
        (np.full((2, 2, 2, 1), "x"), [0, 1], "real numbers"),
        (np.zeros((2, 2, 2, 1), complex), [0, 1], "real numbers"),
        (np.zeros((2, 2, 2, 1)), None, "tick 0 needs a target"),
        (np.zeros((2, 2, 2, 1)), [0, 3], "label 3 is outside the classes 0 … 2"),
        (np.zeros((2, 2, 2, 1)), [0, 1, 2], "2 class indices"),
        (np.zeros((2, 2, 2, 1)), [0.5, 1.0], "class indices"),
        (np.zeros((0, 2, 2, 1)), [], "at least 1"),
    ],
)
@pytest.mark.parametrize("kind", [sw.Sideways, sw.Delayed, sw.Backprop, sw.BPTT])
def test_bad_frames_and_targets_are_refused_at_the_door(kind, frame, target, words):
    with pytest.raises(sw.InputError, match=words):
        kind(chain(), sw.SoftmaxCrossEntropy()).tick(frame, target)


@pytest.mark.parametrize("kind", [sw.Sideways, sw.Backprop, sw.BPTT])
def test_a_refused_tick_leaves_the_size_of_the_batch_open(kind):
    rule = kind(chain(), sw.SoftmaxCrossEntropy())
    with pytest.raises(sw.InputError):
        rule.tick(np.zeros((2, 2, 2, 1)), [0, 3])
    rule.tick(np.zeros((3, 2, 2, 1)), [0, 1, 2])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"update_every": 0}, "update_every"),
        ({"update_every": "tick"}, "update_every"),
        ({"target_delay": 3}, r"0 … 2"),
        ({"boundary": "drop"}, "'flush' or 'stream'"),
        ({"optimizer": sw.SGD(0.1, rates={"conv": 0.5})}, "'conv'; the units are u0, u1, u2"),
        ({"optimizer": 0.1}, r"such as SGD\(0.01\)"),
        ({"optimizer": sw.SGD}, r"such as SGD\(0.01\)"),
        ({"loss": sw.MeanSquaredError}, "a loss such as"),
    ],
)
def test_wrong_settings_of_a_rule_are_refused(options, words):
    with pytest.raises(sw.InputError, match=words):
        sw.Sideways(chain(), **{"loss": sw.SoftmaxCrossEntropy()} | options)


def test_a_parameter_array_is_written_into_and_never_replaced():
    network = chain()
    parameters, layer = network.units["u1"].parameters, network.units["u1"].body.layers[0]
    with pytest.raises(sw.InputError, match=r"'0.weight' cannot be replaced.*\['0.weight'\]\[...\] = "):
        parameters["0.weight"] = np.zeros((3, 3))
    parameters["0.weight"] *= 2  # in place
    parameters["0.bias"][...] = 3
    assert parameters["0.weight"] is layer.weight and (layer.bias == 3).all()
    assert copy.deepcopy(network).units["u1"].parameters.keys() == parameters.keys()
    layer.weight = layer.weight.copy()
    with pytest.raises(sw.InputError, match=r"unit 'u1': 0.weight of its layer was replaced"):
        sw.Sideways(network, sw.SoftmaxCrossEntropy())


def test_rules_that_share_a_network_have_their_own_clocks_and_messages():
    network, loss, (frames, targets) = chain(), sw.SoftmaxCrossEntropy(), clip(8)
    alone = run(sw.Sideways(copy.deepcopy(network), loss), frames, targets)
    rules = sw.Sideways(network, loss), sw.Delayed(network, loss), sw.BPTT(network, loss), sw.Backprop(network, loss)
    ticks = []
    for frame, target in zip(frames, targets, strict=True):
        ticks.append(rules[0].tick(frame, target))
        for rule in rules[1:]:
            rule.tick(frame + 1, target)
    assert all(equal(one.gradients, other.gradients) for one, other in zip(alone, ticks, strict=True))


def test_a_clip_without_a_loss_is_refused_by_bptt():
    with pytest.raises(sw.InputError, match="depth is 3"):
        sw.bptt(chain(), sw.SoftmaxCrossEntropy(), *clip(2))
    with pytest.raises(sw.InputError, match="update_every='clip'"):
        sw.BPTT(chain(), sw.SoftmaxCrossEntropy(), update_every=1)
