"""Memory: a tick in the steady state allocates no large array, and Sideways' peak does not grow with the clip."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

import sideways as sw
from sideways.backend import memory_pool
from sideways.training.build import build_network, build_rule, build_task
from sideways.training.memory import peak_of_clip
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
