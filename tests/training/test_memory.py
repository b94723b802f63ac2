"""In the steady state no large array is allocated in a tick.

Checked twice: the pool, from which layers take every array of activation size, needs no new memory; and tracemalloc,
which sees all that NumPy allocates besides, finds no more than the arrays that the Tick hands over (whose memory is new
where it is a matrix product's result) and small ones: less than one activation of the first unit.
"""

import tracemalloc

import numpy as np

import sideways as sw
from sideways.backend import memory_pool


def test_a_tick_in_the_steady_state_allocates_nothing_of_the_size_of_an_activation():
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
        tick = rule.tick(frame, labels)  # held until the next one is there, as below
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
