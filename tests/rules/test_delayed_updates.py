"""Delayed: what its units learn from its gradients, on streams, over flushes and from restored state."""

import copy

import numpy as np
import pytest
from graphs import bptt, cases, chain, clip, copied, distance, equal, learn_everies, run
from hypothesis import given
from hypothesis import strategies as st
from moved import host

import sideways as sw
from sideways.rules.state import restore_unit, unit_state
from sideways.training.build import build_network, build_rule, build_task
from sideways.training.config import Config

OPTIMIZERS = [
    sw.SGD(0.05),
    sw.SGD(0.02, momentum=0.9, weight_decay=1e-3),
    sw.Adam(1e-2),
    sw.RMSProp(1e-3, orthogonal=0.9),
]


def sequential(network, loss, optimizer, frames, targets, learn_every):
    """The parameters after sequential descent: for each marked tick bptt of its loss alone, then an update.

    bptt sees the D frames up to the marked tick: from no other frame does a path lead to its loss.
    """
    network, depth = copy.deepcopy(network), network.depth
    optimizers = {name: optimizer.for_unit(name) for name in network.units}
    last = len(frames) - depth  # the bottom unit has learnt from the losses of all marked ticks up to this one
    for m in range(depth - 1, last + 1, learn_every):
        window = slice(m - depth + 1, m + 1)
        gradients = sw.bptt(network, loss, frames[window], targets[window]).gradients
        for name, own in gradients.items():
            optimizers[name].update(network.units[name].parameters, own, m)
    return network.parameters


@given(cases(dtypes=("float64",), ticks=lambda network: 7 * network.depth), st.sampled_from(OPTIMIZERS), st.data())
def test_with_seldom_losses_it_is_sequential_descent_on_bptts_gradient_to_the_last_bit(case, optimizer, data):
    network, depth = case.network, case.network.depth
    n = 2 * depth - 1 + data.draw(st.integers(0, 3))
    length = depth - 1 + n * ((len(case.frames) - 2 * depth + 1) // n) + depth  # ends when all units have learnt
    frames, targets = case.frames[:length], case.targets[:length]
    expected = sequential(network, case.loss, optimizer, frames, targets, n)
    trained = copy.deepcopy(network)
    run(sw.Delayed(trained, case.loss, optimizer, learn_every=n), frames, targets)
    assert equal(trained.parameters, expected)


@given(st.integers(2, 6), st.integers(0, 999))
def test_with_a_tick_less_between_the_losses_the_bottom_unit_is_one_update_behind(depth, seed):
    network, loss, optimizer = chain(depth, seed=seed), sw.SoftmaxCrossEntropy(), sw.SGD(0.5)
    ends = []
    for n in (2 * depth - 1, 2 * depth - 2):
        frames, targets = clip(2 * depth - 1 + n, seed)  # two marked losses
        trained = copy.deepcopy(network)
        run(sw.Delayed(trained, loss, optimizer, learn_every=n), frames, targets)
        ends.append(distance(trained.parameters, sequential(network, loss, optimizer, frames, targets, n)))
    assert ends[0] == 0 < ends[1]


@given(cases(ticks=lambda network: 4 * network.depth), st.data())
def test_a_rule_that_is_restored_in_mid_stream_goes_on_with_the_same_bits(case, data):
    network, length = case.network, len(case.frames)
    n, stop = data.draw(learn_everies(network)), data.draw(st.integers(0, length - 1))
    options = {"optimizer": sw.Adam(1e-2), "boundary": "stream", "learn_every": n}
    whole = sw.Delayed(copy.deepcopy(network), case.loss, update_every=2, **options)
    run(whole, case.frames[:stop], case.targets[:stop])
    again = sw.Delayed(copy.deepcopy(network), case.loss, update_every=2, **options)
    again.clock, again.ticks = whole.clock, whole.ticks
    for name in network.units:
        restore_unit(again, name, copied(unit_state(whole, name)))
    for rule in (whole, again):
        run(rule, case.frames[stop:], case.targets[stop:])
    assert equal(whole.network.parameters, again.network.parameters)
    for name in network.units:
        assert equal(*(copied(unit_state(rule, name)) for rule in (whole, again)))


def test_a_flush_between_two_parts_of_a_gradient_leaves_no_trace_of_the_first():
    units = [sw.Unit("a", [sw.Flatten(), sw.Dense(4, 3)]), sw.Unit("b", [sw.Tanh()], ["a"])]
    units += [sw.Unit("c", [sw.Dense(3, 3)], ["b", "a"])]  # depth 3: a pulls at ticks 3 and 4
    network, (frames, labels) = sw.Network(units, (2, 2, 1), dtype="float64"), clip(5)
    rules = [sw.Delayed(copy.deepcopy(network), sw.SoftmaxCrossEntropy(), sw.SGD(0.1), learn_every=5) for _ in range(2)]
    run(rules[0], frames[:4], labels[:4])
    assert "part.1.weight" in unit_state(rules[0], "a")
    rules[0].reset()
    rules[0].network.load(network.parameters)  # the units above have learnt
    for rule in rules:
        run(rule, frames, labels)
    assert equal(rules[0].network.parameters, rules[1].network.parameters)


def test_update_every_counts_the_marked_losses_that_a_unit_learns_from():
    frames, labels = clip(3 * 5 + 2 * 3 - 1, n=4)
    network = chain(3)
    trained = copy.deepcopy(network)
    run(sw.Delayed(trained, sw.SoftmaxCrossEntropy(), sw.SGD(0.1), 3, learn_every=5), frames, labels)
    grads = [bptt(network, sw.SoftmaxCrossEntropy(), frames[m - 2 : m + 1], labels[m - 2 : m + 1]) for m in (2, 7, 12)]
    for name, unit in network.units.items():
        for key, before in unit.parameters.items():
            mean = sum(g.gradients[name][key] for g in grads) / 3
            after = host(trained.units[name].parameters[key])
            assert np.allclose(after, host(before) - 0.1 * mean, rtol=1e-12, atol=1e-14)


def test_what_a_caller_does_with_the_gradients_of_a_tick_does_not_reach_the_rule():
    units = [sw.Unit("a", [sw.Flatten(), sw.Dense(4, 3)]), sw.Unit("b", [sw.Tanh()], ["a"])]
    units += [sw.Unit("c", [sw.Dense(3, 3)], ["b", "a"])]
    network, (frames, labels) = sw.Network(units, (2, 2, 1), dtype="float64"), clip(20)
    copies = [copy.deepcopy(network) for _ in range(2)]
    for trained, factor in zip(copies, (1.0, 0.0), strict=True):
        rule = sw.Delayed(trained, sw.SoftmaxCrossEntropy(), sw.SGD(0.1), learn_every=5)
        for frame, label in zip(frames, labels, strict=True):
            for gradients in rule.tick(frame, label).gradients.values():
                for array in gradients.values():
                    array *= factor
    assert equal(copies[0].parameters, copies[1].parameters) and not equal(copies[0].parameters, network.parameters)


@pytest.mark.parametrize("kind", ["delayed", "sideways"])
def test_the_rule_is_found_by_its_name(kind):
    config = Config(rule=kind, learn_every=7 if kind == "delayed" else 1)
    task = build_task(config)
    rule = build_rule(config, task, build_network(config, task.frame_shape, len(task.classes)))
    assert isinstance(rule, sw.Sideways) and isinstance(rule, sw.Delayed) == (kind == "delayed")
    assert kind == "sideways" or rule.learn_every == 7


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "2"])
def test_a_wrong_learn_every_is_refused(wrong):
    with pytest.raises(sw.InputError, match="learn_every must be"):
        sw.Delayed(chain(), sw.SoftmaxCrossEntropy(), learn_every=wrong)
