"""Properties of every tick, over random networks: schedule, targets, updates, clip ends, messages, traces."""

import copy
from itertools import cycle

import numpy as np
import pytest
from graphs import backprop, bptt, cases, chain, clip, copied, equal, networks, run
from hypothesis import given
from hypothesis import strategies as st
from moved import host, loss_and_gradient

import sideways as sw


@given(networks())
def test_the_schedule_is_the_longest_way_from_the_frame_and_twice_the_way_from_the_top(network):
    units = network.units

    def forward(i):
        return max((forward(j) + 1 for j in units[i].inputs if j != "frame"), default=0)

    def backward(i):
        consumers = [c for c in units if i in units[c].inputs]
        return max((backward(c) + 1 for c in consumers), default=forward(i))

    assert network.first_forward == {name: forward(name) for name in units}
    assert network.first_backward == {name: backward(name) for name in units}
    assert network.depth == forward(list(units)[-1]) + 1 == network.latency + 1
    assert max(network.first_backward.values()) <= 2 * network.depth - 2


@given(cases())
def test_a_unit_runs_backward_from_its_first_backward_on_and_the_loss_from_the_latency_on(case):
    for t, tick in enumerate(run(sw.Sideways(case.network, case.loss), case.frames, case.targets)):
        assert (tick.loss is None) == (tick.output is None) == (t < case.network.latency)
        assert set(tick.gradients) == {n for n, first in case.network.first_backward.items() if t >= first}


@given(cases(), st.data())
def test_the_loss_asks_for_the_target_that_came_target_delay_ticks_before(case, data):
    delay = data.draw(st.integers(0, case.network.latency))
    ticks = run(sw.Sideways(case.network, case.loss, target_delay=delay), case.frames, case.targets)
    for t, tick in enumerate(ticks):
        if tick.loss is not None:
            assert tick.loss == loss_and_gradient(case.loss, tick.output, case.targets[t - delay])[0]
    exact = bptt(case.network, case.loss, case.frames, case.targets, target_delay=delay)
    latest = case.targets[case.network.latency - delay :]
    assert [loss_and_gradient(case.loss, o, latest[t])[0] for t, o in enumerate(exact.output)] == [
        tick.loss for tick in ticks if tick.loss is not None
    ]


@given(cases(dtypes=("float64",), norm=False), st.integers(2, 4))
def test_update_every_n_averages_n_pseudo_gradients_of_each_unit_counted_across_flushes(case, n):
    network, rate = case.network, 0.1
    start = copied(network.parameters)
    frozen = sw.Sideways(copy.deepcopy(network), case.loss)
    trained = sw.Sideways(network, case.loss, sw.SGD(rate), update_every=n)
    pseudo_gradients = {name: [] for name in network.units}
    for tick in run(frozen, case.frames, case.targets):  # equal to the trained ones until the first update of any unit
        for name, gradients in tick.gradients.items():
            pseudo_gradients[name].append(gradients)
    top = network.top.name
    for t, (frame, target) in enumerate(zip(case.frames, case.targets, strict=True)):
        trained.tick(frame, target)
        if t == network.latency + n - 2:
            assert equal(network.parameters[top], start[top])
        if t == network.latency + n - 1:
            for key, value in host(network.parameters[top]).items():
                mean = sum(g[key] for g in pseudo_gradients[top][:n]) / n
                assert np.allclose(value, start[top][key] - rate * mean, rtol=1e-12, atol=1e-14)
            break


def test_the_average_over_a_clip_is_of_what_each_unit_made_since_the_last_clip_end():
    network, (frames, targets) = chain(), clip(7)
    start = copied(network.parameters)
    rule = sw.Sideways(network, sw.SoftmaxCrossEntropy(), sw.SGD(0.1), update_every="clip")
    ticks = run(rule, frames, targets)
    assert equal(network.parameters, start)
    rule.end_clip()
    for name in network.units:
        own = [tick.gradients[name] for tick in ticks if name in tick.gradients]
        assert len(own) == 7 - network.first_backward[name]
        for key, value in host(network.parameters[name]).items():
            assert np.allclose(value, start[name][key] - 0.1 * sum(g[key] for g in own) / len(own), rtol=1e-12)
    before = copied(network.parameters)
    rule.update_for_clip()  # no gradient since the last update, so no update
    assert equal(network.parameters, before)


def test_counts_of_update_every_go_on_across_flushes():
    network, (frames, targets) = chain(depth=1), clip(3)
    start = copied(network.parameters)
    rule = sw.Sideways(network, sw.SoftmaxCrossEntropy(), sw.SGD(0.1), update_every=4)
    first = run(rule, frames, targets)
    rule.end_clip()
    assert equal(network.parameters, start)
    second = run(rule, frames[:1], targets[:1])
    for key, value in host(network.parameters["u0"]).items():
        mean = sum(tick.gradients["u0"][key] for tick in first + second) / 4
        assert np.allclose(value, start["u0"][key] - 0.1 * mean, rtol=1e-12)


@given(cases())
def test_a_stream_of_two_clips_is_one_long_clip_and_a_flush_starts_afresh(case):
    frames, targets = np.concatenate([case.frames] * 2), np.concatenate([case.targets] * 2)
    half = len(case.frames)
    long = run(sw.Sideways(case.network, case.loss), frames, targets)
    stream = sw.Sideways(case.network, case.loss, boundary="stream")
    ticks = run(stream, frames[:half], targets[:half])
    stream.end_clip()
    ticks += run(stream, frames[half:], targets[half:])
    assert all(equal(a.gradients, b.gradients) for a, b in zip(long, ticks, strict=True))
    flushed = sw.Sideways(case.network, case.loss)
    once = run(flushed, case.frames, case.targets)
    flushed.end_clip()
    again = run(flushed, case.frames, case.targets)
    assert all(equal(a.gradients, b.gradients) for a, b in zip(once, again, strict=True))


@given(cases(), st.sampled_from([sw.Sideways, sw.Backprop, sw.BPTT]))
def test_evaluation_and_the_instruments_leave_no_trace_in_training(case, kind):
    copies = [copy.deepcopy(case.network) for _ in range(2)]
    plain, disturbed = (kind(network, case.loss, sw.Adam(0.01)) for network in copies)
    frames, targets = (array[: case.network.depth] for array in (case.frames, case.targets))  # a loss, at the last tick
    disturbances = cycle(  # one after each tick, in turn
        [
            lambda: disturbed.evaluate(frames[:, :1], targets[:, :1]),
            lambda: backprop(copies[1], case.loss, frames[0], targets[0]),
            lambda: bptt(copies[1], case.loss, frames, targets),
        ]
    )
    for frame, target in zip(case.frames, case.targets, strict=True):
        plain.tick(frame, target)
        disturbed.tick(frame, target)
        next(disturbances)()
    plain.end_clip()
    disturbed.end_clip()
    assert equal(copies[0].parameters, copies[1].parameters)
    assert equal(copies[0].state, copies[1].state)


@given(cases())
def test_arrays_of_a_tick_belong_to_the_caller_and_nobody_writes_into_frames_or_targets(case):
    case.frames.flags.writeable = case.targets.flags.writeable = False
    rule = sw.Sideways(case.network, case.loss, sw.SGD(1e-4, momentum=0.5))
    ticks = []
    for frame, target in zip(case.frames, case.targets, strict=True):
        tick = rule.tick(frame, target)
        ticks.append((tick, copied(tick.gradients), None if tick.output is None else copied(tick.output)))
    for tick, gradients, output in ticks:
        assert equal(tick.gradients, gradients)
        assert output is None or equal(tick.output, output)


@given(cases(below=True, most_units=4), st.sampled_from([sw.Sideways, sw.BPTT]))
def test_a_caller_may_reuse_its_frames_and_targets_and_write_into_outputs(case, kind):
    ends = []  # parameters; the first unit passes the frame on as it is
    for reuse in (False, True):
        network = copy.deepcopy(case.network)
        rule = kind(network, case.loss, sw.SGD(1e-3), update_every="clip")
        frame, target = case.frames[0].copy(), case.targets[0].copy()
        for new_frame, new_target in zip(case.frames, case.targets, strict=True):
            frame[...], target[...] = new_frame, new_target
            tick = rule.tick(frame if reuse else new_frame, target if reuse else new_target)
            if reuse and tick.output is not None:
                tick.output.fill(7)
        rule.end_clip()
        ends.append(network.parameters)
    assert equal(*ends)


@given(cases())
def test_a_tick_without_its_target_is_refused_and_moves_nothing(case):
    ends = []  # parameters
    for forgetful in (False, True):
        network = copy.deepcopy(case.network)
        rule = sw.Sideways(network, case.loss, sw.SGD(1e-3))
        for t, (frame, target) in enumerate(zip(case.frames, case.targets, strict=True)):
            if forgetful and t % 2:
                with pytest.raises(sw.InputError, match=f"tick {t} needs a target"):
                    rule.tick(frame, None)
            rule.tick(frame, target)
        ends.append(network.parameters)
    assert equal(*ends)


class ReadOnlyMailbox(sw.Mailbox):
    """A mailbox that checks that messages are contiguous, and that nobody writes into one until its reader is done."""

    sent = read = ()

    def send(self, sender, receiver, message, s):
        assert message.flags.c_contiguous
        self.sent = (*self.sent, (message, copied(message)))
        super().send(sender, receiver, message, s)

    def end(self):
        assert all(equal(message, before) for message, before in self.read)
        self.read, self.sent = self.sent, ()
        super().end()


@given(cases())
def test_messages_are_contiguous_and_no_unit_writes_into_them(case):
    rule = sw.Sideways(case.network, case.loss, sw.SGD(1e-4), mailbox=ReadOnlyMailbox(case.network.timetable))
    assert run(rule, case.frames, case.targets)[-1].loss is not None


class ForwardOnly(sw.Sideways):
    """Sideways whose units never run backward, for tests that look at outputs alone."""

    def pull(self, unit, saved):
        return None


@given(cases(smooth=True, norm=False, dtypes=("float64",), ticks=lambda network: network.depth + 2))
def test_the_trace_names_the_frames_that_an_activation_depends_on(case):
    network = case.network
    t = len(case.frames) - 1

    def top_activation(frames):
        return run(ForwardOnly(network, case.loss), frames, case.targets)[-1].output

    rule = sw.Sideways(network, case.loss)
    output = run(rule, case.frames, case.targets)[-1].output
    trace = rule.trace()
    frames_in_trace = {frame for frame, _ in trace[network.top.name].activation}
    assert {tick for _, tick in trace[network.top.name].activation} == {t}
    for frame in range(t + 1):
        other = case.frames.copy()
        other[frame] += np.random.default_rng(frame).normal(size=other[frame].shape)
        assert (frame in frames_in_trace) != np.array_equal(top_activation(other), output)


def test_the_trace_of_a_chain_pairs_each_gradient_with_frames_two_apart():
    rule = sw.Sideways(chain(depth=3), sw.SoftmaxCrossEntropy())
    run(rule, *clip(8))
    trace = rule.trace()  # after tick 7
    assert [sorted(trace[f"u{i}"].activation) for i in range(3)] == [[(7, 7)], [(6, 7)], [(5, 7)]]
    assert sorted(trace["u0"].gradient) == [(3, 5), (5, 6), (7, 7)]
    assert sorted(trace["u2"].gradient) == [(5, 7)]


def test_a_trace_of_a_skip_graph_mixes_two_frames():
    network = sw.Network(
        [
            sw.Unit("a", [sw.Flatten(), sw.Dense(4, 3)]),
            sw.Unit("b", [sw.Dense(3, 3)], ["a"]),
            sw.Unit("c", [sw.Dense(6, 3)], ["b", "a"], merge="concat"),
        ],
        (2, 2, 1),
    )
    rule = sw.Sideways(network, sw.SoftmaxCrossEntropy())
    run(rule, *clip(6))
    assert sorted(rule.trace()["c"].activation) == [(3, 5), (4, 5)]


@given(cases())
def test_the_same_seed_gives_the_same_bits_and_a_units_weights_do_not_depend_on_the_others(case):
    network = case.network
    again = sw.Network(list(network.units.values()), network.input_shape, network.seed, network.dtype)
    assert equal(network.parameters, again.parameters)
    alone = next(iter(network.units.values()))
    if alone is not network.top:
        small = sw.Network([alone], network.input_shape, network.seed, network.dtype)
        assert equal(small.parameters[alone.name], network.parameters[alone.name])
