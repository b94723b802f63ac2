"""Memory: a tick in the steady state allocates no large array, Sideways' peak does not grow with the clip, and what is
counted as kept is what a rule holds."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from graphs import cases
from hypothesis import given
from hypothesis import strategies as st

import sideways as sw
from sideways.backend import memory_pool
from sideways.models import build_model
from sideways.training.build import build_network, build_rule, build_task
from sideways.training.memory import between_ticks, of_clip, peak_of_clip
from tests.training.runs import TINY, same


def test_a_tick_in_the_steady_state_allocates_nothing_of_the_size_of_an_activation():
    """Check all allocations. The pool, from which layers take arrays of activation size, asks for no new memory.
    Outside the pool tracemalloc counts only the gradients that the `Tick` hands over, and small arrays: less than a
    quarter of an activation of the first unit.
    """
    network = sw.Network(
        [
            sw.Unit("a", [sw.Conv2D(3, 8, 3), sw.BatchNorm(8), sw.ReLU(), sw.MaxPool2D(2)]),
            sw.Unit("b", [sw.Conv2D(8, 8, 3, stride=2), sw.Tanh(), sw.Upsample2D(2)], ["a"]),
            sw.Unit("c", [sw.Conv2D(16, 8, 3), sw.LeakyReLU(), sw.AveragePool2D(2)], ["b", "a"], merge="concat"),
            sw.Unit("d", [sw.Shortcut([sw.Conv2D(8, 8, 3), sw.Square()])], {"c": [], "a": [sw.MaxPool2D(2)]}),
            sw.Unit("e", [sw.GlobalAveragePool(), sw.Dense(8, 4)], ["d"]),
        ],
        (32, 32, 3),
    )
    rule = sw.Sideways(network, sw.SoftmaxCrossEntropy(), sw.Adam(1e-3, weight_decay=1e-4), boundary="stream")
    frames = np.random.default_rng(0).normal(size=(30, 16, 32, 32, 3)).astype(np.float32)
    labels = np.arange(16) % 4
    for frame in frames[:15]:
        tick = rule.tick(frame, labels)  # the arrays of a Tick live until the next Tick exists, as they do below
    misses = memory_pool.misses
    peaks = []
    tracemalloc.start()
    for frame in frames[15:]:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        tick = rule.tick(frame, labels)
        peaks.append(tracemalloc.get_traced_memory()[1] - before)
    tracemalloc.stop()
    gradients = sum(array.nbytes for unit in tick.gradients.values() for array in unit.values())
    activation = 4 * 16 * 32 * 32 * 8
    assert memory_pool.misses == misses
    assert max(peaks) < gradients + activation / 4


def peak(rule, length):
    """The peak of memory in bytes while a rule trains on a clip of so many frames."""
    config = replace(TINY, rule=rule, batch=8, task_options={"length": length, "size": 16}, model_options={"width": 8})
    task = build_task(config)
    rule = build_rule(config, task, build_network(config, task.frame_shape, len(task.classes)))
    clip = task.clip("train", 0, 8)
    return peak_of_clip(rule, clip.frames, clip.targets)


def test_activation_memory_of_sideways_is_flat_in_the_length_of_a_clip_and_that_of_bptt_grows_with_it():
    sideways, longer = peak("sideways", 18), peak("sideways", 36)
    bptt, longer_bptt = peak("bptt", 18), peak("bptt", 36)
    assert longer == pytest.approx(sideways, rel=0.05)
    assert bptt > 4 * sideways
    assert longer_bptt > 1.8 * bptt


def test_measuring_memory_changes_nothing():
    task = build_task(TINY)
    network = build_network(TINY, task.frame_shape, len(task.classes))
    rule = build_rule(TINY, task, network)
    before = {unit: {key: array.copy() for key, array in arrays.items()} for unit, arrays in network.parameters.items()}
    clip = task.clip("train", 0, 4)
    peak_of_clip(rule, clip.frames, clip.targets)
    assert rule.ticks == 0
    for unit, arrays in network.parameters.items():
        assert same(arrays, before[unit])


def paths_up(network, name):
    """The lengths of the paths from a unit to the top."""
    if name == network.top.name:
        return {0}
    consumers = [unit.name for unit in network.units.values() if name in unit.inputs]
    return {length + 1 for consumer in consumers for length in paths_up(network, consumer)}


class Expected:
    """The arrays that are held after each tick, as names: ("a", j, s) is the activation of unit j, or the frame, of
    tick s; ("g", c, i, s) the gradient that c sends to i once it has pulled at its input of tick s.

    every: the n of Delayed; None for Sideways.
    """

    def __init__(self, network, every, batch):
        self.network, self.every = network, every
        self.paths = {name: paths_up(network, name) for name in network.units}
        self.bytes_per_element = batch * np.dtype(network.dtype).itemsize

    def pull(self, name, s):
        """The tick of the pull at the input of tick s, or None: after twice the longest path to a marked loss."""
        if self.every is None:
            return s if s >= self.network.first_backward[name] else None
        first = self.network.depth - 1
        to_marked = [p for p in self.paths[name] if s + p >= first and (s + p - first) % self.every == 0]
        return s + 2 * max(to_marked) if to_marked else None

    def inputs(self, tick):
        """The inputs that units keep."""
        if self.every is None:
            return set()
        return {
            ("a", j, s if j == "frame" else s - 1)
            for name, unit in self.network.units.items()
            for s in range(tick + 1)
            for j in unit.inputs
            if name != self.network.top.name and (pull := self.pull(name, s)) is not None and pull > tick
        }

    def messages(self, tick):
        """The messages that have been sent, and not read: array → the tick at which it is read."""
        first, unread = self.network.first_forward, {}
        for i, unit in self.network.units.items():
            for j in unit.inputs:
                if j == "frame":
                    continue
                if tick >= first[j] and tick + 1 >= first[i]:
                    unread["a", j, tick] = tick + 1
                for s in range(tick + 1):
                    sent = self.pull(i, s)
                    if sent is None or sent > tick:
                        continue
                    read = sent + 1 if self.every is None else self.pull(j, s - 1)
                    if read > tick and (self.every is not None or read >= self.network.first_backward[j]):
                        unread["g", i, j, s] = read
        return unread

    def size(self, arrays):
        """The bytes of arrays."""
        return sum(
            self.bytes_per_element * int(np.prod(self.network.shapes[array[1] if array[0] == "a" else array[2]]))
            for array in arrays
        )

    def counts(self, tick):
        """The bytes by kind, as `between_ticks` gives them."""
        now, before = self.messages(tick), self.messages(tick - 1) if tick else {}
        inputs, waiting = self.inputs(tick), {array for array, read in now.items() if read > tick + 1}
        messages = (now.keys() | before.keys()) - inputs - waiting
        return {"messages": self.size(messages), "inputs": self.size(inputs), "waiting": self.size(waiting)}


@given(st.data())
def test_the_bytes_counted_between_ticks_are_those_of_the_arrays_that_the_schedule_says_are_held(data):
    case = data.draw(cases(ticks=lambda network: 4 * network.depth, batch=2))
    network = case.network
    every = data.draw(st.none() | st.integers(1, 2 * network.depth))
    rule = (
        sw.Sideways(network, case.loss, boundary="stream")
        if every is None
        else sw.Delayed(network, case.loss, learn_every=every, boundary="stream")
    )
    expected = Expected(network, every, batch=2)
    counts = between_ticks(rule, case.frames, case.targets)
    assert counts == [expected.counts(tick) for tick in range(len(case.frames))]
    for frame, target in zip(case.frames, case.targets, strict=True):
        rule.tick(frame, target)
    if every is not None:  # the running rule itself
        held = {id(x): x.nbytes for kept in rule.kept.values() for inputs in kept.values() for x in inputs.values()}
        assert sum(held.values()) == counts[-1]["inputs"]


def clip_of(rule, network, length):
    """The bytes of training on a clip of zeros of this length, by kind."""
    frames = [np.zeros((2, *network.input_shape), np.float32)] * length
    return of_clip(rule(network, sw.SoftmaxCrossEntropy(), boundary="stream"), frames, [[0, 1]] * length)


def rarely(network, loss, **options):
    """Delayed with n = 2D-1."""
    return sw.Delayed(network, loss, learn_every=2 * network.depth - 1, **options)


def test_delayed_keeps_one_input_of_each_unit_of_a_chain_with_few_marked_losses_and_more_with_all():
    for depth in (3, 6, 12):
        network = build_model("mlp", (4, 4, 1), 4, hidden=[16] * (depth - 1))  # every input is 2×16 numbers of 4 bytes
        few, every = (clip_of(rule, network, 4 * depth) for rule in (rarely, sw.Delayed))
        assert few["inputs"] == 128 * (depth - 1)  # the top keeps none
        assert every["inputs"] == 128 * sum(2 * to_top for to_top in range(1, depth))  # one more during the tick
        assert few["waiting"] == every["waiting"] == 0
        for counted in (few, every):
            assert counted["peak"] <= sum(counted[kind] for kind in ("saved", "messages", "inputs", "scratch"))


def test_gradients_wait_where_paths_of_different_length_meet():
    network = build_model("vgg5-skip", (16, 16, 1), 4, width=4)
    skipped = 4 * 2 * int(np.prod(network.units["conv1"].output_shape))
    # The part of conv4, 1 tick below the top, waits for that of conv2: conv1's longest path has 4 ticks.
    assert clip_of(sw.Delayed, network, 20)["waiting"] == 2 * (4 - 1 - 1) * skipped
    assert clip_of(sw.Sideways, network, 20)["waiting"] == 0
