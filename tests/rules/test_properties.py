"""The properties that documentation claims of the rules, over random networks: one test for each."""

import copy
import math

import numpy as np
import pytest
from graphs import backprop, bptt, cases, distance, equal, run
from hypothesis import given
from hypothesis import strategies as st
from moved import host, loss_and_gradient

import sideways as sw
from sideways.rules.backprop import forward_all


@given(cases(static=True))
def test_on_a_static_clip_sideways_is_backprop_to_the_last_bit(case):
    network = case.network
    exact = backprop(network, case.loss, case.frames[0], case.targets[0])
    for t, tick in enumerate(run(sw.Sideways(network, case.loss), case.frames, case.targets)):
        assert set(tick.gradients) == {name for name, first in network.first_backward.items() if t >= first}
        for name, gradients in tick.gradients.items():
            assert equal(gradients, exact.gradients[name])
        if t >= network.latency:
            assert tick.loss == exact.loss
    assert set(tick.gradients) == set(network.units)


@given(cases(most_units=4, smooth=True, norm=False, dtypes=("float64",), static=True, ticks=lambda network: 1))
def test_the_distance_to_backprop_training_shrinks_with_the_learning_rate(case):
    span = 0.02  # η · ticks: so short that no network leaves the neighbourhood that it starts in

    def trained(rate, rule):
        network = copy.deepcopy(case.network)
        trainer = rule(network, case.loss, sw.SGD(rate))
        for _ in range(math.ceil(span / rate)):
            trainer.tick(case.frames[0], case.targets[0])
        return network.parameters

    exact = {rate: trained(rate, sw.Backprop) for rate in (0.002, 0.0005)}
    for kind in (sw.Sideways, sw.Delayed):
        gaps = [distance(trained(rate, kind), parameters) for rate, parameters in exact.items()]
        assert gaps[1] <= 0.45 * gaps[0] + 1e-12, kind  # a quarter, if the distance is proportional to the rate


@given(cases(smooth=True, most_units=4, dtypes=("float64",), ticks=lambda network: network.depth + 2))
def test_backprop_and_bptt_agree_with_central_finite_differences(case):
    network, random = case.network, np.random.default_rng(0)

    def unrolled():  # the loss of `bptt` without its way back
        rule = sw.BPTT(network, case.loss)
        losses = []
        for frame, target in zip(case.frames, case.targets, strict=True):
            losses.append(host(rule.unroll(frame, target).loss))
            rule.end_tick()
        return sum(loss for loss in losses if loss is not None)

    def at_once():  # the loss of `backprop` without its way back
        activations, _ = forward_all(network, sw.to_device(case.frames[0]), train=True)
        return loss_and_gradient(case.loss, host(activations[network.top.name]), case.targets[0])[0]

    exact = backprop(network, case.loss, case.frames[0], case.targets[0])
    assert float(at_once()) == float(exact.loss)
    through_time = bptt(network, case.loss, case.frames, case.targets)
    assert float(unrolled()) == float(through_time.loss)
    for gradients, value in (
        (exact.gradients, at_once),
        (through_time.gradients, unrolled),
    ):
        for name, unit in network.units.items():
            for key, parameter in unit.parameters.items():
                direction = random.normal(size=parameter.shape)
                start = host(parameter).copy()
                values = []
                for step in (1e-5, -1e-5):
                    parameter[...] = sw.to_device(start + step * direction)
                    values.append(float(value()))
                parameter[...] = sw.to_device(start)
                derivative = float((gradients[name][key] * direction).sum()) if name in gradients else 0.0
                assert (values[0] - values[1]) / 2e-5 == pytest.approx(derivative, rel=1e-5, abs=2e-7)


@pytest.mark.parametrize("kind", [sw.Sideways, sw.Delayed])
@given(cases(most_units=1, ticks=lambda network: 5), st.booleans())
def test_a_network_of_one_unit_is_trained_as_by_backprop_on_any_video(kind, case, momentum):
    copies = [copy.deepcopy(case.network) for _ in range(2)]
    optimizer = sw.SGD(0.05, momentum=0.9 * momentum)
    ticks, backprop = (
        run(rule(network, case.loss, optimizer), case.frames, case.targets)
        for rule, network in zip((kind, sw.Backprop), copies, strict=True)
    )
    for one, other in zip(ticks, backprop, strict=True):
        assert equal(one.gradients, other.gradients)
    assert equal(copies[0].parameters, copies[1].parameters)


@given(cases(smooth=True, norm=False, dtypes=("float64",)))
def test_on_a_smooth_video_the_distance_to_backprop_is_proportional_to_the_motion(case):
    network = case.network
    middle, motion = case.frames[0], case.frames - case.frames.mean(axis=0)
    targets = np.broadcast_to(case.targets[0], case.targets.shape)

    def gap(size):
        frames = middle + size * motion
        last = run(sw.Sideways(network, case.loss), frames, targets)[-1]
        return distance(last.gradients, backprop(network, case.loss, frames[-1], targets[-1]).gradients)

    assert gap(1e-4) <= 0.2 * gap(1e-3) + 1e-11  # a tenth, if the distance is proportional to the motion


def test_with_relu_and_max_pooling_the_distance_is_proportional_to_the_motion_on_average():
    def gap(size, seed):
        random = np.random.default_rng(seed)
        network = sw.Network(
            [
                sw.Unit("a", [sw.Conv2D(1, 4, kernel=3), sw.ReLU(), sw.MaxPool2D(2)]),
                sw.Unit("b", [sw.Conv2D(4, 4, kernel=3), sw.ReLU()], ["a"]),
                sw.Unit("c", [sw.GlobalAveragePool(), sw.Dense(8, 3)], ["b", "a"], merge="concat"),
            ],
            (6, 6, 1),
            seed,
            "float64",
        )
        frames = random.normal(size=(2, 6, 6, 1)) + size * random.normal(size=(8, 2, 6, 6, 1))
        last = run(sw.Sideways(network, sw.SoftmaxCrossEntropy()), frames, [[0, 1]] * 8)[-1]
        exact = backprop(network, sw.SoftmaxCrossEntropy(), frames[-1], [0, 1])
        return distance(last.gradients, exact.gradients)

    gaps = [np.mean([gap(size, seed) for seed in range(100)]) for size in (1e-2, 1e-3)]
    assert gaps[1] == pytest.approx(0.1 * gaps[0], rel=0.3)


@given(cases(dtypes=("float64",), ticks=lambda network: 2 * network.depth + 2))
def test_the_pseudo_gradients_of_the_top_sum_to_those_of_bptt_on_any_video(case):
    network = case.network
    top = network.top.name
    ticks = run(sw.Sideways(network, case.loss), case.frames, case.targets)
    exact = bptt(network, case.loss, case.frames, case.targets)
    for key, expected in exact.gradients[top].items():
        total = sum(tick.gradients[top][key] for tick in ticks if top in tick.gradients)
        assert np.allclose(total, expected, rtol=1e-9, atol=1e-12)
    losses = [tick.loss for tick in ticks if tick.loss is not None]
    assert exact.loss == pytest.approx(sum(losses), rel=1e-12)
