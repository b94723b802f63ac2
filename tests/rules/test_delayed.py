"""Delayed: each of its gradients is one of bptt's, only later, on any video and graph; and the inputs that it keeps."""

import copy
from itertools import pairwise

import numpy as np
import pytest
from graphs import backprop, cases, chain, copied, distance, equal, learn_everies, run
from hypothesis import given
from hypothesis import strategies as st

import sideways as sw
from sideways.rules.state import unit_state


class Marked(sw.Loss):
    """A loss whose gradient is 0, but at every n-th call from the first on. The first call is at tick D-1."""

    def __init__(self, loss, learn_every):
        self.loss, self.learn_every, self.calls = loss, learn_every, 0

    def check(self, target, shape):
        return self.loss.check(target, shape)

    def __call__(self, output, target):
        value, gradient = self.loss(output, target)
        self.calls += 1
        return value, gradient if (self.calls - 1) % self.learn_every == 0 else 0 * gradient


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


def terms_of_bptt(network, loss, frames, targets, learn_every):
    """(unit, tick) → the term that bptt of the marked losses adds to the unit's gradient for its forward of the tick.

    Where no marked loss depends on the forward, the term is 0 or missing.
    """
    rule = sw.BPTT(copy.deepcopy(network), Marked(loss, learn_every))
    run(rule, frames, targets)
    forwards = {id(saved): (name, t) for t, units in enumerate(rule._saved) for name, saved in units.items()}
    terms = {}
    for name, unit in rule.network.units.items():

        def backward(gradient, saved, name=name, unit=unit):
            messages, own = type(unit).backward(unit, gradient, saved)
            terms[forwards[id(saved)]] = copied(own)
            return messages, own

        unit.backward = backward
    rule.roll_up()
    return terms


class Recorded(sw.Delayed):
    """Delayed, which records each pull, (unit, s) → its tick, and the most inputs that each unit keeps."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.recorded, self.most = {}, dict.fromkeys(self.network.units, 0)

    def pull(self, unit, saved):
        self.most[unit.name] = max(self.most[unit.name], len(self.kept[unit.name]))
        pull = super().pull(unit, saved)
        if pull is not None:
            assert (unit.name, pull[0]) not in self.recorded  # each forward is pulled once
            self.recorded[unit.name, pull[0]] = self.clock
        return pull


def longest_to_marked(network, name, s, learn_every):
    """The length of the longest path from the unit that ends at a marked tick, by walking all paths; or None."""

    def walk(unit, tick):
        if unit == network.top.name:
            yield tick
        for consumer in network.consumers[unit]:
            yield from walk(consumer, tick + 1)

    ends = [m for m in walk(name, s) if m >= network.latency and (m - network.latency) % learn_every == 0]
    return max(ends) - s if ends else None


@given(cases(most_units=5, dtypes=("float64",), ticks=lambda network: 3 * network.depth + 3), st.data())
def test_every_pull_is_the_term_of_bptt_of_the_marked_losses_to_the_last_bit_and_none_is_missing(case, data):
    network, length = case.network, len(case.frames)
    n = data.draw(learn_everies(network))
    rule = Recorded(network, case.loss, learn_every=n)
    ticks = run(rule, case.frames, case.targets)
    longer = network.latency  # as far as the losses are to which the last forwards of the clip lead
    more = np.random.default_rng(0).normal(size=(longer, *case.frames.shape[1:])).astype(network.dtype)
    frames, targets = [*case.frames, *more], [*case.targets, *(case.targets[0] for _ in more)]
    terms = terms_of_bptt(network, case.loss, frames, targets, n)
    due = {}
    for name in network.units:
        for s in range(network.first_forward[name], length):
            longest = longest_to_marked(network, name, s, n)
            if longest is None:
                assert not any(value.any() for value in terms.get((name, s), {}).values())
            elif s + 2 * longest < length:
                due[name, s] = s + 2 * longest
    assert rule.recorded == due
    for t, tick in enumerate(ticks):
        pulled = {key: terms[key] for key, moment in due.items() if moment == t}
        assert sorted(tick.gradients) == sorted(name for name, _ in pulled)  # at most one pull of a unit
        assert all(equal(tick.gradients[name], term) for (name, _), term in pulled.items())


@given(cases(dtypes=("float64",), ticks=lambda network: 2 * network.depth + 2), st.data())
def test_summed_over_a_stream_they_are_bptts_gradient_of_the_marked_losses_on_any_video_and_graph(case, data):
    network, length = case.network, len(case.frames)
    n = data.draw(learn_everies(network))
    rule = sw.Delayed(network, Silent(case.loss, length - network.latency), learn_every=n)
    ticks = run(rule, case.frames, case.targets)
    for _ in range(2 * network.latency):  # with gradient 0, until the last other gradient is at the bottom
        ticks.append(rule.tick(case.frames[0], case.targets[0]))
    exact = sw.bptt(network, Marked(case.loss, n), case.frames, case.targets).gradients
    total = summed(ticks)
    assert near({name: total[name] for name in exact}, exact)


@given(cases(ticks=lambda network: 6 * network.depth + 1), st.data())
def test_a_unit_keeps_no_more_inputs_than_the_bound_which_a_stream_reaches(case, data):
    network = case.network
    n = data.draw(learn_everies(network))
    rule = Recorded(network, case.loss, learn_every=n)
    run(rule, case.frames, case.targets)
    for name, most in rule.most.items():
        lengths = {network.path_lengths[name][-1]} if n == 1 else set(network.path_lengths[name])
        bound = sum(2 * length // n + 1 for length in lengths if length)
        assert most <= rule.marks.most_kept(name) <= bound
        if n == 1 or n > 2 * network.latency or len(lengths) == 1:  # then the inputs of all lengths meet
            assert most == rule.marks.most_kept(name) == bound
        if n >= 2 * network.depth - 1 and name != network.top.name:
            assert most == len(lengths)


@given(cases(most_units=5, dtypes=("float64",), ticks=lambda network: 2 * network.depth + 2), st.data())
def test_the_trace_names_the_frames_that_a_gradient_depends_on(case, data):
    network, last = case.network, len(case.frames) - 1
    n = data.draw(learn_everies(network))

    def gradients(frames):
        rule = sw.Delayed(network, case.loss, learn_every=n)
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


@given(cases(static=True))
def test_on_a_static_clip_delayed_is_backprop_once_every_loss_has_been_reached(case):
    network = case.network
    exact = sw.backprop(network, case.loss, case.frames[0], case.targets[0])
    rule = sw.Delayed(network, case.loss)
    for _ in range(3 * network.depth):
        tick = rule.tick(case.frames[0], case.targets[0])
    for name, gradients in tick.gradients.items():
        assert equal(gradients, exact.gradients[name])


def test_a_flush_forgets_the_inputs_the_messages_and_the_parts_of_gradients():
    names = ["frame", "a", "b", "c"]
    units = [sw.Unit(n, [sw.Flatten(), sw.Dense(4 if b == "frame" else 3, 3)], [b]) for b, n in pairwise(names)]
    rule = sw.Delayed(sw.Network(units, (2, 2, 1)), sw.SoftmaxCrossEntropy())
    frame = np.zeros((2, 2, 2, 1), np.float32)
    for t in range(9):
        frame[...] = t  # the caller reuses its array
        rule.tick(frame, [0, 1])
    inputs = {key: value for key, value in unit_state(rule, "a").items() if key.startswith("input.")}
    assert {key: float(value.max()) for key, value in inputs.items()} == {f"input.{s}.frame": s for s in (5, 6, 7, 8)}
    assert sum(key.startswith("input.") for key in unit_state(rule, "b")) == 2
    assert not any(key.startswith("input.") for key in unit_state(rule, "c"))
    rule.end_clip()
    assert not any(key.startswith(("input.", "message.", "part.")) for key in unit_state(rule, "a"))


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_dropout_and_batch_statistics_are_those_of_the_forward_that_a_gradient_belongs_to(n):
    units = [
        sw.Unit("a", [sw.Flatten(), sw.Dense(4, 6), sw.BatchNorm(6), sw.Dropout(0.5)]),
        sw.Unit("b", [sw.Dense(6, 6), sw.Tanh(), sw.Dropout(0.2)], ["a"]),
        sw.Unit("c", [sw.Dense(6, 6), sw.Dropout(0.2)], {"b": [], "a": [sw.Dense(6, 6)]}),
        sw.Unit("d", [sw.Dense(6, 3)], ["c"]),
    ]
    network = sw.Network(units, (2, 2, 1), dtype="float64")
    frames, labels = np.random.default_rng(0).normal(size=(15, 5, 2, 2, 1)), [[0, 1, 2, 0, 1]] * 15
    rule = Recorded(copy.deepcopy(network), sw.SoftmaxCrossEntropy(), learn_every=n)
    ticks = run(rule, frames, labels)
    terms = terms_of_bptt(network, sw.SoftmaxCrossEntropy(), frames, labels, n)
    assert len(rule.recorded) > 8
    for (name, s), tick in rule.recorded.items():
        assert equal(ticks[tick].gradients[name], terms[name, s])
    exact = sw.BPTT(copy.deepcopy(network), sw.SoftmaxCrossEntropy())
    run(exact, frames, labels)
    assert equal(rule.network.state, exact.network.state)  # a forward pass that is repeated does not count
