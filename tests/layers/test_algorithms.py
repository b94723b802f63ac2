"""The two algorithms of `Conv2D`, against a naive loop, against each other, and the errors of Winograd's in float32."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moved import backward, forward, host, ready
from windows import windows_by_hand

import sideways as sw
from sideways.backend import for_host
from sideways.layers import winograd
from sideways.layers.conv import Im2col
from sideways.layers.winograd import Winograd

KERNELS = {Im2col: st.tuples(st.integers(1, 4), st.integers(1, 4)), Winograd: st.just((3, 3))}
STRIDES = {Im2col: st.tuples(st.integers(1, 3), st.integers(1, 3)), Winograd: st.just((1, 1))}


@pytest.mark.parametrize("kind", [Im2col, Winograd])
@settings(max_examples=60)
@given(
    st.data(),
    st.tuples(st.integers(4, 11), st.integers(4, 11)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.integers(1, 3),
    st.sampled_from(["same", "valid"]),
    st.sampled_from([1, 4, 200]),
    st.sampled_from([0, 9]),
)
def test_each_algorithm_is_the_naive_loop_forward_and_backward(
    kind, data, size, channels, samples, padding, tiles_per_block, few_weights
):
    kernel, stride = data.draw(KERNELS[kind]), data.draw(STRIDES[kind])
    (inputs, outputs), random = channels, np.random.default_rng(size)
    layer = ready(sw.Conv2D(inputs, outputs, kernel, stride, padding))
    weight, bias = layer.weight, random.normal(size=outputs)
    x = random.normal(size=(samples, *size, inputs))
    before = winograd.TILES_PER_BLOCK, winograd.FEW_WEIGHTS
    winograd.TILES_PER_BLOCK = tiles_per_block  # makes several blocks of a batch
    winograd.FEW_WEIGHTS = few_weights  # Uᵀ is copied, or is not
    try:
        widest = [k for k in range(1, 5) if layer.windows.output(x.shape[1:])[1] % k == 0]
        options = {"together": data.draw(st.sampled_from(widest))} if kind is Im2col else {}
        algorithm = kind(layer.windows, **options)
        x_there = sw.to_device(x)
        y, scratch = algorithm.forward(x_there, weight, sw.to_device(bias))
        dy = random.normal(size=y.shape)
        dy_there = sw.to_device(dy)
        dx, dw, db = host(algorithm.backward(x_there, weight, dy_there, scratch, True))
        recomputed = algorithm.recompute(x_there, weight)
        no_dx, *dw_and_db = host(algorithm.backward(x_there, weight, dy_there, recomputed, False))
    finally:
        winograd.TILES_PER_BLOCK, winograd.FEW_WEIGHTS = before
    y, weight = host((y, weight))
    expected = np.zeros_like(x), np.zeros_like(weight)
    indices = np.arange(x.size).reshape(x.shape)
    for (i, j), pixels in windows_by_hand(x, kernel, stride, padding):
        total = bias.copy() * np.ones((samples, 1))
        for u, v, value in pixels:
            total += value @ weight[u, v]
            expected[1][u, v] += value.T @ dy[:, i, j]
        np.testing.assert_allclose(y[:, i, j], total, rtol=1e-11, atol=1e-11)
    for (i, j), pixels in windows_by_hand(indices, kernel, stride, padding):
        for u, v, index in pixels:
            expected[0].reshape(-1)[index] += dy[:, i, j] @ weight[u, v].T
    for computed, right in zip((dx, dw, db), (*expected, dy.sum(axis=(0, 1, 2))), strict=True):
        np.testing.assert_allclose(computed, right, rtol=1e-10, atol=1e-10)
    assert no_dx is None and all(map(np.array_equal, dw_and_db, (dw, db)))


def test_in_float32_winograd_errs_by_no_more_than_the_docstring_says():
    random = np.random.default_rng(0)
    layer = ready(sw.Conv2D(64, 64, kernel=3))
    x, dy = random.normal(size=(2, 2, 28, 28, 64))
    exact = Im2col(layer.windows)
    x, dy = sw.to_device(x), sw.to_device(dy)
    y, columns = exact.forward(x, layer.weight, layer.bias)
    exact_results = host((y, *exact.backward(x, layer.weight, dy, columns, True)[:2]))
    x, dy, weight, bias = (array.astype(np.float32) for array in (x, dy, layer.weight, layer.bias))
    algorithm = Winograd(layer.windows)
    y, scratch = algorithm.forward(x, weight, bias)
    results = host((y, *algorithm.backward(x, weight, dy, scratch, True)[:2]))
    for result, expected in zip(results, exact_results, strict=True):
        assert result.dtype == np.float32
        assert np.abs(result - expected).max() < 6e-5 * np.sqrt((expected**2).mean())


@given(st.integers(1, 80), st.integers(1, 80), st.integers(1, 16), st.integers(3, 40), st.integers(3, 40))
def test_the_algorithm_depends_on_shapes_alone_and_winograd_is_for_wide_layers_with_many_pixels(c, o, n, h, w):
    layer = sw.Conv2D(c, o, kernel=3)
    algorithm = type(layer.algorithm((n, h, w, c)))
    assert algorithm is type(sw.Conv2D(c, o, kernel=3).algorithm((n, h, w, c)))
    pixels, half_full = n * h * w, 2 * h * w >= 16 * -(-h // 4) * -(-w // 4)
    assert (algorithm is Winograd) == (min(c, o) >= 16 and pixels >= 512 and pixels * c * o >= 2**20 and half_full)
    for other in (sw.Conv2D(c, o, kernel=5), sw.Conv2D(c, o, kernel=(3, 1)), sw.Conv2D(c, o, kernel=3, stride=2)):
        assert type(other.algorithm((n, h, w, c))) is Im2col


@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(1, 30), st.integers(5, 20), st.sampled_from(["same", "valid"])
)
def test_two_windows_are_one_row_where_they_share_pixels_channels_are_few_and_their_number_is_even(c, o, n, w, padding):
    layer = sw.Conv2D(c, o, (3, 5), padding=padding)
    windows = w if padding == "same" else w - 4
    pixels = n * windows * (5 if padding == "same" else 3)
    few = c * o <= min(256 if o <= 16 and for_host() else 64, pixels / 4)
    assert layer.algorithm((n, 5, w, c)).together == (2 if few and windows % 2 == 0 else 1)
    for apart in (sw.Conv2D(c, o, 1), sw.Conv2D(c, o, 3, stride=3, padding=padding)):
        assert apart.algorithm((n, 5, w, c)).together == 1


@given(
    st.integers(1, 3),
    st.integers(2, 9),
    st.integers(1, 4),
    st.sampled_from([1, 2]),
    st.sampled_from(["float32", "float64"]),
)
def test_the_bias_is_part_of_the_product_on_the_host_where_a_copy_has_more_rows_than_columns(n, size, c, kernel, dtype):
    layer = ready(sw.Conv2D(c, 3, kernel), dtype)
    y, (x, _) = forward(layer, np.ones((n, size, size, c), dtype))
    rows = layer._scratch
    columns = kernel * (kernel + layer.algorithm(x.shape).together - 1) * c
    with_ones = kernel > 1 and len(rows) > columns and for_host()
    assert rows.shape[1] == columns + with_ones and y.dtype == rows.dtype == dtype


@pytest.mark.parametrize("shape", [(32, 32, 16), (33, 30, 32)])
def test_a_wide_layer_passes_the_gradient_check_and_is_re_entrant(shape):
    layer = ready(sw.Conv2D(shape[2], 32, kernel=3))
    random = np.random.default_rng(0)
    first, second = map(sw.to_device, random.normal(size=(2, 2, *shape)))
    assert isinstance(layer.algorithm(first.shape), Winograd)
    y, saved_first = layer.forward(first)
    expected = layer.backward(y, saved_first)
    _, saved_first = layer.forward(first)
    _, saved_second = layer.forward(second)
    layer.backward(y, saved_second)
    dx, gradients = layer.backward(y, saved_first)
    assert np.array_equal(host(dx), host(expected[0]))
    assert all(np.array_equal(host(gradients[key]), host(expected[1][key])) for key in gradients)
    # The gradients agree with the derivative of ½|y|² along a random direction of each of x, W and b.
    for array, gradient in ((first, dx), *((getattr(layer, key), gradients[key]) for key in gradients)):
        direction, step, values = sw.to_device(random.normal(size=array.shape)), 1e-5, array.copy()
        sides = []
        for sign in (1, -1):
            array[...] = values + sign * step * direction
            sides.append(float((layer.forward(first)[0] ** 2).sum() / 2))
        array[...] = values
        assert (sides[0] - sides[1]) / (2 * step) == pytest.approx(float((gradient * direction).sum()), rel=1e-6)


@given(st.integers(4, 9), st.integers(1, 3), st.integers(0, 99))
def test_a_pool_before_a_monotone_activation_is_the_pool_after_it_to_the_last_bit(size, channels, seed):
    random = np.random.default_rng(seed)
    x = random.integers(-3, 3, (2, size, size, channels)).astype(np.float32) * np.float32(0.1)  # with ties
    for activation in (sw.ReLU, sw.LeakyReLU, sw.Tanh, sw.Sigmoid):
        orders = (
            sw.layers.Sequential([sw.MaxPool2D(2), activation()]),
            sw.layers.Sequential([activation(), sw.MaxPool2D(2)]),
        )
        (y, saved), (other_y, other_saved) = (forward(order, x) for order in orders)
        assert np.array_equal(y, other_y)
        dy = random.normal(size=y.shape).astype(np.float32)
        assert np.array_equal(backward(orders[0], dy, saved)[0], backward(orders[1], dy, other_saved)[0])
