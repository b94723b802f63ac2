"""Kernels are their steps: each computes what the function that it replaces computes in NumPy's steps, bit for bit.

How many operations a tick takes stands here too: a GPU is bound by their number where networks are small.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sideways as sw
from double.clock import Hazard, clock
from double.elementwise import ElementwiseKernel
from double.namespace import cupy
from sideways import losses, optimizers
from sideways.backend.fused import KERNELS
from sideways.layers import activation, conv, dropout, norm, pool, winograd
from sideways.layers.windows import Windows
from sideways.models import build_model

DTYPES = st.sampled_from(["float32", "float64"])
PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))
PADDINGS = st.sampled_from(["same", "valid"])


def both(function, arrays, *others):
    """The arrays after `function`, and its result: computed in NumPy's steps, and by the kernel."""
    host = [array.copy() for array in arrays]
    there = [cupy.asarray(array) for array in arrays]
    expected = function.__wrapped__(*host, *others)
    found = function(*there, *others)
    return [flat(expected), host], [flat(found), [array.get() for array in there]]


def flat(result):
    results = result if isinstance(result, tuple) else (result,)
    return [array if isinstance(array, np.ndarray) else array.get() for array in results if array is not None]


def check(function, arrays, *others, written=()):
    """The kernel gives the result of the steps, and writes what they write: the arrays of these numbers."""
    (expected, host), (found, there) = both(function, arrays, *others)
    assert len(expected) == len(found) and all(map(np.array_equal, expected, found))
    for number, (array, mine) in enumerate(zip(host, there, strict=True)):
        assert np.array_equal(array if number in written else arrays[number], mine)


def normal(seed, dtype, *shapes):
    random = np.random.default_rng(seed)
    return [random.normal(size=shape).astype(dtype) for shape in shapes]


@given(st.integers(0, 999), DTYPES, st.integers(1, 3), st.tuples(st.integers(3, 9), st.integers(3, 9)), PAIRS, PAIRS,
       PADDINGS, st.booleans())  # fmt: skip
def test_kernels_of_windows(seed, dtype, n, size, kernel, stride, padding, ties):
    windows = Windows(kernel, stride, padding)
    (x,) = normal(seed, dtype, (n, *size, 2))
    x = np.round(x) if ties else x
    check(conv.copied_windows, [x], kernel, stride, windows.margins(x.shape[1:]))
    (of_windows,) = normal(seed, dtype, (n, *windows.output(x.shape[1:]), kernel[0] * kernel[1], 2))
    check(conv.add_windows, [of_windows], windows, x.shape[1:])
    (weight,) = normal(seed, dtype, (*kernel, 2, 3))
    check(conv.joined_weight, [weight], 2, stride[1])
    (gradient,) = normal(seed, dtype, (kernel[0] * (kernel[1] + stride[1]) * 2, 2 * 3))
    check(conv.parted_gradient, [gradient], weight.shape, 2, stride[1])
    layer = sw.MaxPool2D(kernel, stride, padding)
    check(pool.max_pool, [x], windows)
    y, _ = layer.forward(x)
    (dy,) = normal(seed, dtype, y.shape)
    check(pool.max_pool_gradient, [dy, x, y], windows)


@given(st.integers(0, 999), DTYPES, st.integers(1, 3), st.tuples(st.integers(3, 11), st.integers(3, 11)), PADDINGS)
def test_kernels_of_tiles(seed, dtype, n, size, padding):
    windows = Windows((3, 3), (1, 1), padding)
    (x,) = normal(seed, dtype, (n, *size, 2))
    top, _, left, _ = windows.margins(x.shape[1:])
    ho, wo = windows.output(x.shape[1:])
    count = -(-ho // 4), -(-wo // 4)
    check(winograd.tiles, [x], 6, count, top, left)
    pixels, of_tiles, y = normal(seed, dtype, (16, n, *count, 3), (36, n, *count, 2), (n, ho, wo, 3))
    check(winograd.tiles, [y], 4, count, 0, 0)
    check(winograd.lay_tiles, [pixels, y], written=[1])
    check(winograd.add_tiles, [of_tiles, x], top, left, written=[1])


@given(st.integers(0, 999), DTYPES, st.integers(1, 5), st.integers(1, 4))
def test_kernels_of_activations_and_normalisation(seed, dtype, m, c):
    dy, x, *vectors = normal(seed, dtype, (m, c), (m, c), *[(c,)] * 6)
    check(activation.relu_gradient, [dy, np.maximum(x, 0)])
    deviation = np.abs(vectors[3]) + 1
    check(norm.spread, [deviation], m, 1e-5)
    check(norm.scaled, [x, deviation, *vectors[:2]])
    check(norm.norm_gradient, [dy, x, *vectors[:3], deviation], m)
    ticks = np.array([m], dtype)
    check(norm.update_running, [*vectors[:4], ticks], 0.3, m, written=[2, 3])


@given(st.integers(0, 999), DTYPES, st.integers(1, 4), st.integers(1, 5), st.floats(0.1, 0.9))
def test_kernels_of_dropout_and_of_the_loss(seed, dtype, n, k, rate):
    x, logits = normal(seed, dtype, (n, 3, k), (n, k))
    random = np.random.default_rng(seed)
    check(dropout.dropout_mask, [x], random.integers(0, 2**63, n, np.uint64), rate)
    exponentials = np.exp(logits)
    targets = random.integers(0, k, n)
    for smoothing in (0.0, 0.1):
        check(losses.softmax_gradient, [exponentials, exponentials.sum(axis=1, keepdims=True), targets], smoothing)


@given(st.integers(0, 999), DTYPES, st.tuples(st.integers(1, 4), st.integers(1, 4)), st.booleans())
def test_kernels_of_optimizers(seed, dtype, shape, nesterov):
    parameter, gradient, velocity = normal(seed, dtype, shape, shape, shape)
    check(optimizers.sgd_step, [parameter, gradient], 0.1, None, 0.0, False, written=[0])
    for on_host in (True, False):  # the velocity stands between other arguments
        copies = [array.copy() if on_host else cupy.asarray(array) for array in (parameter, gradient, velocity)]
        optimizers.sgd_step(copies[0], copies[1], 0.1, copies[2], 0.9, nesterov)
        after = [array if on_host else array.get() for array in copies]
        expected = after if on_host else expected  # noqa: F821
    assert all(map(np.array_equal, expected, after))
    arrays = [parameter, gradient, velocity, velocity**2]
    mean = (0.9, 0.2) if nesterov else (1.0, 0.0)
    check(optimizers.adam_step, arrays, (0.9, 0.999, 1e-8), 0.01, 1.5, *mean, written=[0, 2, 3])


def test_every_kernel_is_compared_here():
    clock.journal = []
    for name, test in globals().items():
        if name.startswith("test_kernels_of"):
            test()
    run, clock.journal = {name for name, *_ in clock.journal}, None
    assert {f"sideways_{kernel.name}" for kernel in KERNELS} <= run


def test_the_double_refuses_what_a_kernel_of_cupy_would_refuse_or_get_wrong():
    x = cupy.ones((2, 3), "float32")
    kernel = ElementwiseKernel("raw T x, int32 k", "T y", "y = x[i] * k;", "twice")
    y = cupy.empty((2, 3), "float32")
    kernel(x, 2, y)
    assert np.array_equal(y.get(), np.full((2, 3), 2))
    with pytest.raises(TypeError, match="mismatched"):
        kernel(x, 2, cupy.empty((2, 3), "float64"))
    with pytest.raises(TypeError, match="takes 3 arguments"):
        kernel(x, y)
    with pytest.raises(Hazard, match="other threads read"):
        kernel(x, 2, x)
    doubled = ElementwiseKernel("T x", "T y", "y = 2 * x;", "doubled")
    line = cupy.ones(6, "float32")
    for read, written in ((line[1:], line[:-1]), (line[:1], line), (line[::-1], line)):
        with pytest.raises(Hazard, match="other threads read"):
            doubled(read, written)
    doubled(line, line)  # each thread reads its own element before it writes it
    doubled(line[3:], line[:3])
    assert np.array_equal(line.get(), [4, 4, 4, 2, 2, 2])
    with pytest.raises(RuntimeError, match="error"):
        ElementwiseKernel("T x", "T y", "y = no_such_name;", "wrong")(x, y)


def operations(model, shape, batch, optimizer):
    """The pieces of work that one tick in the steady state gives to the device."""
    network = build_model(model, shape, 4)
    rule = sw.Sideways(network, sw.SoftmaxCrossEntropy(), optimizer, boundary="stream")
    frame, target = np.zeros((batch, *shape), np.float32), np.zeros(batch, int)
    clock.computes = False  # the work counts, not its results
    try:
        with np.errstate(all="ignore"):
            for _ in range(2 * network.depth):
                rule.tick(frame, target)
            clock.journal = []
            rule.tick(frame, target)
    finally:
        clock.computes = True
    count, clock.journal = len(clock.journal), None
    return count


def test_a_tick_of_vgg8_gives_the_device_few_operations_whatever_the_batch():
    counts = [operations("vgg8", (112, 112, 3), batch, sw.SGD(0.01, momentum=0.9)) for batch in (8, 32)]
    assert counts == [140, 151]  # at most 230; with batches of 32 one more convolution takes Winograd's algorithm


def test_a_tick_of_vgg5_skip_with_adam_gives_the_device_few_operations():
    assert operations("vgg5-skip", (16, 16, 1), 32, sw.Adam(1e-3)) == 157  # at most 180
