"""Delayed: its gradients are those of bptt, only later, on any video and any graph; and the inputs that it keeps."""

import copy
from itertools import pairwise

import numpy as np
import pytest
from graphs import backprop, cases, chain, copied, distance, equal, run
from hypothesis import assume, given
from hypothesis import strategies as st

import sideways as sw
from sideways.rules.state import unit_state
from sideways.training.build import build_network, build_rule, build_task
from sideways.training.config import Config


class Silent(sw.Loss):
    """A loss that is another one for a number of calls; after that its gradient is 0."""

    def __init__(self, loss, calls):
        self.loss, self.calls_left = loss, calls

    def check(self, target, shape):
        return self.loss.check(target, shape)

    def __call__(self, output, target):
        value, gradient = self.loss(output, target)
        self.calls_left -= 1
        return value, gradient if self.calls_left >= 0 else 0 * gradient


def summed(ticks):
    """The sum of the gradients of ticks: unit → key → array."""
    totals = {}
    for tick in ticks:
        for name, gradients in tick.gradients.items():
            total = totals.setdefault(name, {key: np.zeros(value.shape) for key, value in gradients.items()})
            for key, value in gradients.items():
                total[key] += sw.to_host(value)
    return totals


def near(one, other):
    """Whether two sets of gradients are equal up to rounding."""
    values = (sw.to_host(value) for gradients in other.values() for value in gradients.values())
    length = sum(np.linalg.norm(value) ** 2 for value in values) ** 0.5
    return distance(one, other) <= 1e-12 + 1e-10 * length


@given(cases(dtypes=("float64",), ticks=lambda network: 2 * network.depth + 2))
def test_once_all_gradients_have_arrived_they_sum_to_those_of_bptt_on_any_video_and_graph(case):
    network, length = case.network, len(case.frames)
    exact = sw.bptt(network, case.loss, case.frames, case.targets).gradients
    rule = sw.Delayed(network, Silent(case.loss, length - network.latency))
    ticks = run(rule, case.frames, case.targets)
    for _ in range(2 * network.latency):  # with gradient 0, until the last other gradient is at the bottom
        ticks.append(rule.tick(case.frames[0], case.targets[0]))
    assert near(summed(ticks), exact)


@given(cases(most_units=5, dtypes=("float64",), ticks=lambda network: 2 * network.depth + 2), st.data())
def test_the_trace_names_the_frames_that_a_gradient_depends_on(case, data):
    network, last = case.network, len(case.frames) - 1

    def gradients(frames):
        rule = sw.Delayed(network, case.loss)
        return run(rule, frames, case.targets)[-1].gradients, rule.trace()

    original, trace = gradients(case.frames)
    assert {name for name, met in trace.items() if met.gradient} == set(original)
    changed = data.draw(st.integers(0, last))
    others, _ = gradients([frame + (t == changed) for t, frame in enumerate(case.frames)])
    for name, own in original.items():
        if changed not in {frame for frame, _ in trace[name].gradient}:
            assert equal({name: own}, {name: others[name]})


@given(st.integers(1, 5), st.integers(0, 99))
def test_the_trace_of_a_chain_names_the_one_frame_whose_exact_gradient_it_is(depth, seed):
    network, loss = chain(depth, seed=seed), sw.MeanSquaredError()
    frames, targets = np.random.default_rng(seed).normal(size=(2, 2 * depth + 1, 2, 4))
    frames, targets = frames.reshape(-1, 2, 2, 2, 1), targets[..., :3]
    rule = sw.Delayed(network, loss)
    assert not any(met.activation or met.gradient for met in rule.trace().values())
    gradients = run(rule, frames, targets)[-1].gradients
    for name, met in rule.trace().items():
        (frame,) = {frame for frame, _ in met.gradient}
        exact = backprop(network, loss, frames[frame], targets[frame]).gradients
        assert near({name: gradients[name]}, {name: exact[name]})


@given(cases(most_units=5, dtypes=("float64",), ticks=lambda network: 2 * network.depth + 2))
def test_what_a_unit_makes_at_a_tick_is_what_bptt_adds_for_its_forward_two_ways_ago_to_the_last_bit(case):
    network, length = case.network, len(case.frames)
    ticks = run(sw.Delayed(network, case.loss), case.frames, case.targets)
    terms = terms_of_bptt(network, case.loss, case.frames, case.targets)
    compared = 0
    for t, tick in enumerate(ticks):
        assert set(tick.gradients) == {name for name, first in network.first_backward.items() if t >= first}
        for name, gradients in tick.gradients.items():
            compared += 1
            assert equal(gradients, terms[t - 2 * network.path_lengths[name][-1], name])
    assert compared >= length - network.latency


def terms_of_bptt(network, loss, frames, targets):
    """(tick, unit) → the term that bptt adds to the unit's gradient for its forward pass of this tick."""
    rule = sw.BPTT(copy.deepcopy(network), loss)
    run(rule, frames, targets)
    forwards = {id(saved): (t, name) for t, units in enumerate(rule._saved) for name, saved in units.items()}
    terms = {}
    for name, unit in rule.network.units.items():

        def backward(gradient, saved, name=name, unit=unit):
            messages, own = type(unit).backward(unit, gradient, saved)
            terms[forwards[id(saved)]] = copied(own)
            return messages, own

        unit.backward = backward
    rule.roll_up()
    return terms


@given(cases(most_units=5, dtypes=("float64",), ticks=lambda network: 3 * network.depth))
def test_on_a_chain_the_sum_is_bptt_of_the_clip_up_to_the_loss_that_has_arrived(case):
    network = case.network
    assume(all(len(lengths) == 1 for lengths in network.path_lengths.values()))
    total = summed(run(sw.Delayed(network, case.loss), case.frames, case.targets))
    for name in network.units:
        arrived = len(case.frames) - network.path_lengths[name][-1]
        exact = sw.bptt(network, case.loss, case.frames[:arrived], case.targets[:arrived]).gradients
        assert near({name: total[name]}, {name: exact[name]})


@given(cases(static=True))
def test_on_a_static_clip_delayed_is_backprop_once_every_loss_has_been_reached(case):
    network = case.network
    exact = sw.backprop(network, case.loss, case.frames[0], case.targets[0])
    rule = sw.Delayed(network, case.loss)
    for _ in range(3 * network.depth):
        tick = rule.tick(case.frames[0], case.targets[0])
    for name, gradients in tick.gradients.items():
        assert equal(gradients, exact.gradients[name])


def test_a_unit_keeps_as_many_inputs_as_a_frame_needs_up_and_down_and_a_flush_forgets_them():
    names = ["frame", "a", "b", "c"]
    units = [sw.Unit(n, [sw.Flatten(), sw.Dense(4 if b == "frame" else 3, 3)], [b]) for b, n in pairwise(names)]
    rule = sw.Delayed(sw.Network(units, (2, 2, 1)), sw.SoftmaxCrossEntropy())
    frame = np.zeros((2, 2, 2, 1), np.float32)
    for t in range(9):
        frame[...] = t  # the caller reuses its array
        rule.tick(frame, [0, 1])
    inputs = {key: value for key, value in unit_state(rule, "a").items() if key.startswith("input.")}
    assert [float(inputs[f"input.{age}.frame"].max()) for age in range(5)] == [8, 7, 6, 5, 4] and len(inputs) == 5
    assert sum(key.startswith("input.") for key in unit_state(rule, "b")) == 3
    assert not any(key.startswith("input.") for key in unit_state(rule, "c"))
    rule.end_clip()
    assert not any(key.startswith(("input.", "late.")) for key in unit_state(rule, "a"))


def test_dropout_has_the_mask_of_the_forward_that_a_gradient_belongs_to():
    def network():
        units = [
            sw.Unit("a", [sw.Flatten(), sw.Dense(4, 6), sw.Dropout(0.5)]),
            sw.Unit("b", [sw.Dense(6, 6), sw.Tanh()], ["a"]),
            sw.Unit("c", [sw.Dense(6, 3)], ["b"]),
        ]
        return sw.Network(units, (2, 2, 1), dtype="float64")

    frames = np.random.default_rng(0).normal(size=(9, 2, 2, 2, 1))
    total = summed(run(sw.Delayed(network(), sw.SoftmaxCrossEntropy()), frames, [[0, 1]] * 9))
    arrived = network()
    rule = sw.BPTT(arrived, sw.SoftmaxCrossEntropy())
    run(rule, frames[:7], [[0, 1]] * 7)
    assert near({"a": total["a"]}, {"a": rule.roll_up()["a"]})


@pytest.mark.parametrize("kind", ["delayed", "sideways"])
def test_the_rule_is_found_by_its_name(kind):
    config = Config(rule=kind)
    task = build_task(config)
    rule = build_rule(config, task, build_network(config, task.frame_shape, len(task.classes)))
    assert isinstance(rule, sw.Sideways) and isinstance(rule, sw.Delayed) == (kind == "delayed")
