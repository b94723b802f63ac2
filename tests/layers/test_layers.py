"""Tests of each layer against naive loops and the formulas of its docstring."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moved import backward, forward, host, ready
from windows import windows_by_hand

import sideways as sw

pairs = st.tuples(st.integers(1, 4), st.integers(1, 4))
images = st.tuples(st.integers(4, 7), st.integers(4, 7), st.integers(1, 3))


@given(images, pairs, pairs, st.sampled_from(["same", "valid"]), st.integers(0, 99))
def test_convolution_is_the_naive_loop(shape, kernel, stride, padding, seed):
    layer = ready(sw.Conv2D(shape[2], 2, kernel, stride, padding), seed=seed)
    layer.bias[...] = sw.to_device([0.5, -1])
    x = np.random.default_rng(seed).normal(size=(2, *shape))
    y, _ = forward(layer, x)
    weight, bias = host((layer.weight, layer.bias))
    for (i, j), pixels in windows_by_hand(x, kernel, stride, padding):
        expected = bias + sum(value @ weight[u, v] for u, v, value in pixels)
        assert np.allclose(y[:, i, j], expected, rtol=1e-12, atol=1e-12)
    assert y.shape == (2, i + 1, j + 1, 2)


@given(images, pairs, pairs, st.sampled_from(["same", "valid"]), st.integers(0, 99))
def test_pools_are_the_naive_loop(shape, size, stride, padding, seed):
    x = np.random.default_rng(seed).normal(size=(2, *shape))
    largest, _ = forward(sw.MaxPool2D(size, stride, padding), x)
    mean, _ = forward(sw.AveragePool2D(size, stride, padding), x)
    for (i, j), pixels in windows_by_hand(x, size, stride, padding):
        values = [value for _, _, value in pixels]
        if values:  # with a stride larger than its size, a window may lie wholly in the padding
            assert np.array_equal(largest[:, i, j], np.max(values, axis=0))
            assert np.allclose(mean[:, i, j], np.mean(values, axis=0), rtol=1e-12)


@given(st.integers(1, 3), st.integers(1, 3), st.sampled_from(["same", "valid"]), st.integers(0, 99))
def test_in_a_tie_the_gradient_of_max_pooling_goes_to_exactly_one_element(size, stride, padding, seed):
    x = np.random.default_rng(seed).integers(0, 2, (2, 6, 5, 2)).astype(float)
    layer = sw.MaxPool2D(size, stride, padding)
    y, saved = forward(layer, x)
    for i in range(y.shape[1]):
        dy = np.zeros_like(y)
        dy[:, i, 0] = 1
        dx, _ = backward(layer, dy, saved)
        assert np.array_equal((dx != 0).sum(axis=(1, 2)), np.ones((2, 2)))
        assert (x[dx != 0] == y[:, i, 0].reshape(-1)[np.argsort(np.nonzero(dx)[0] * 2 + np.nonzero(dx)[3])]).all() or (
            sorted(x[dx != 0]) == sorted(y[:, i, 0].reshape(-1))
        )


@given(st.integers(1, 3), st.integers(1, 4), st.sampled_from([0.005, 0.3, 1.0]), st.integers(1, 6), st.integers(0, 99))
def test_batch_normalisation_makes_mean_0_and_variance_1_and_learns_running_statistics(c, batch, momentum, ticks, seed):
    random = np.random.default_rng(seed)
    layer = ready(sw.BatchNorm(c, momentum))
    mean, variance = np.zeros(c), np.ones(c)
    for n in range(1, ticks + 1):
        x = random.normal(3, 2, size=(batch, 4, 5, c))
        y, saved = forward(layer, x, train=True)
        assert np.allclose(y.mean(axis=(0, 1, 2)), 0, atol=1e-9) and np.allclose(y.var(axis=(0, 1, 2)), 1, atol=1e-3)
        assert np.allclose(host(layer.mean), mean)  # the forward pass alone changes no running statistics
        layer.update_statistics(saved)
        part = max(momentum, 1 / n)
        mean = (1 - part) * mean + part * x.mean(axis=(0, 1, 2))
        variance = (1 - part) * variance + part * x.var(axis=(0, 1, 2), ddof=1)
        assert np.allclose(host(layer.mean), mean) and np.allclose(host(layer.variance), variance)
    z, _ = forward(layer, x, train=False)
    assert np.allclose(z, (x - mean) / np.sqrt(variance + 1e-5))


def test_dropout_drops_its_part_scales_the_rest_and_does_nothing_when_not_training():
    layer, x = ready(sw.Dropout(0.3)), np.ones((4, 100, 100))
    y, saved = forward(layer, x)
    assert set(np.unique(y)) == {0, 1 / 0.7}
    assert (y == 0).mean() == pytest.approx(0.3, abs=0.01)
    assert np.array_equal(backward(layer, x, saved)[0], y)
    assert np.array_equal(forward(layer, x, train=False)[0], x)


@given(st.integers(0, 10**6), st.integers(0, 50), st.integers(1, 3))
def test_a_dropout_mask_depends_on_seed_unit_layer_tick_and_place_in_the_whole_batch_alone(tick, first, part):
    def mask(seed=1, name="u", index=0, at=tick, start=0, n=4):
        unit = sw.Unit(name, [sw.Dropout(0.5), sw.Dropout(0.5), sw.Flatten(), sw.Dense(64, 2)])
        layer = sw.Network([unit], (8, 8, 1), seed).units[name].body.layers[index]
        layer.set_position(at, start)
        return forward(layer, np.ones((n, 8, 8, 1), np.float32))[0]

    whole = mask(start=first)
    assert np.array_equal(whole, mask(start=first))
    assert np.array_equal(whole[part:], mask(start=first + part, n=4 - part))
    for other in (mask(seed=2, start=first), mask(name="v", start=first), mask(index=1, start=first)):
        assert not np.array_equal(whole, other)
    assert not np.array_equal(whole, mask(at=tick + 1, start=first))
    assert not np.array_equal(whole[0], whole[1])


@given(images, st.integers(1, 2), st.integers(1, 9), st.integers(0, 99))
def test_the_gate_is_the_size_of_the_change_times_two_correlations_in_each_window(shape, channels, window, seed):
    h, w, features = shape
    random = np.random.default_rng(seed)
    x = random.normal(size=(2, h, w, features + 4 * channels))
    x[..., features + channels :] += random.normal(size=(2, 1, 1, 1)) * np.arange(3 * channels)  # some samples move
    layer = ready(sw.GatedChange([sw.Conv2D(features + 4 * channels, channels, 1)], channels, window), seed=seed)
    y, _ = forward(layer, x)
    weight = host(layer.layers[0].weight)[0, 0]
    moments = np.split(x[..., features:], 4, axis=-1)
    changes = np.diff(moments, axis=0)  # the oldest first
    first = [np.clip(np.arange(n) - min(window, n) // 2, 0, n - min(window, n)) for n in (h, w)]
    for i, j in np.ndindex(h, w):
        rows, columns = (slice(start[k], start[k] + window) for start, k in zip(first, (i, j), strict=True))
        for n in range(2):
            older, old, new = (change[n, rows, columns].ravel() for change in changes)
            rho3, rho2, rho1 = ((d @ d / d.size + 1e-6) ** 0.5 for d in (older, old, new))
            now, before = new @ old / new.size / (rho1 * rho2), old @ older / new.size / (rho2 * rho3)
            gate = rho1 * max(now, 0) * max(before, 0)
            z = np.concatenate([x[n, i, j, :features], *changes[:, n, i, j] / rho1, moments[-1][n, i, j]])
            assert np.allclose(y[n, i, j], moments[-1][n, i, j] + gate * (z @ weight), rtol=1e-9, atol=1e-9)


def test_a_gate_of_noise_repeats_the_newest_frame_and_one_of_a_steady_change_extrapolates():
    def goes_on(*changes):  # H gives d₁ / ρ₁
        layer = ready(sw.GatedChange([sw.Conv2D(4, 1, 1)], 1))
        layer.layers[0].weight[...] = sw.to_device(np.array([0.0, 0.0, 1.0, 0.0]).reshape(1, 1, 4, 1))
        frames = np.cumsum(np.stack([changes[0], *changes], axis=-1), axis=-1)
        return forward(layer, frames)[0][..., 0] - frames[..., 3]

    d1, d2, d3 = np.random.default_rng(0).normal(size=(3, 3, 16, 16))
    assert np.allclose(goes_on(d1, d1, d1), d1, rtol=1e-5)
    for turned in ((d1, d1, -d1), (-d1, d1, d1), (d1, -d1, d1)):
        assert np.array_equal(goes_on(*turned), np.zeros_like(d1))
    for noise in ((d3, d2, d1), (d2, d1, d1), (d1, d1, d2)):
        assert (goes_on(*noise) ** 2).mean() < 0.02 * (d1**2).mean()


@given(st.integers(2, 5), st.integers(1, 3), st.integers(0, 99))
def test_the_newest_moment_and_the_changes_add_up_to_every_older_moment(moments, channels, seed):
    x = np.random.default_rng(seed).integers(-9, 9, (2, 3, 4, moments * channels)).astype(float)  # sums are exact
    y, _ = forward(sw.Changes(moments), x)
    newest, *changes = np.split(y, moments, axis=-1)
    for k, moment in enumerate(np.split(x, moments, axis=-1)):
        assert np.array_equal(newest - sum(changes[:k]), moment)
    alone, _ = forward(sw.Changes(moments, newest=False), x)
    assert np.array_equal(alone, y[..., channels:])


def test_he_and_glorot_weights_have_the_variance_they_promise():
    he, glorot = ready(sw.Conv2D(20, 30, 5)), ready(sw.Dense(300, 200, init="glorot"))
    assert float(he.weight.var()) == pytest.approx(2 / (25 * 20), rel=0.03) and not he.bias.any()
    assert float(glorot.weight.var()) == pytest.approx(2 / 500, rel=0.02)
    assert np.abs(host(glorot.weight)).max() <= (6 / 500) ** 0.5
    assert not ready(sw.Conv2D(2, 3, 3, init="zero")).weight.any()


def test_upsampling_repeats_pixels_and_flatten_and_shortcut_do_what_they_say():
    x = np.arange(12.0).reshape(1, 2, 3, 2)
    assert np.array_equal(forward(sw.Upsample2D((2, 3)), x)[0], x.repeat(2, axis=1).repeat(3, axis=2))
    assert np.array_equal(forward(sw.Flatten(), x)[0], x.reshape(1, 12))
    assert np.array_equal(forward(sw.Shortcut([sw.Square()]), x)[0], x * x + x)
    assert np.array_equal(forward(sw.GlobalAveragePool(), x)[0], x.mean(axis=(1, 2)))
    assert np.allclose(forward(sw.Sigmoid(), np.array([-1e4, 0, 1e4]))[0], [0, 0.5, 1])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: sw.Conv2D(3, 4, kernel=0), "kernel must be a whole number of at least 1"),
        (lambda: sw.Conv2D(3, 4, kernel=3.0), "kernel must be a whole number"),
        (lambda: sw.Conv2D(3, 4, kernel=(3, 3, 3)), "two for rows and columns"),
        (lambda: sw.Unit("a", sw.ReLU()), "given as a list"),
        (lambda: sw.Conv2D(3, 4, 3, padding="full"), "'same' or 'valid'"),
        (lambda: sw.Conv2D(0, 4, 3), "at least one channel"),
        (lambda: sw.Conv2D(3, 4, 3, init="zeros"), "'he', 'glorot' or 'zero'"),
        (lambda: sw.Dense(3, 0), "at least one feature"),
        (lambda: sw.Changes(1), "at least two moments, not 1"),
        (lambda: sw.Changes(2).output_shape((4, 4, 3)), "are not 2 moments of equal size"),
        (lambda: sw.GatedChange([], 0), "at least one channel and a window of one pixel"),
        (lambda: sw.GatedChange([], 1, window=0), "at least one channel and a window of one pixel"),
        (lambda: sw.GatedChange([], 2).output_shape((4, 4, 7)), "four moments of 2 channels each"),
        (lambda: sw.GatedChange([], 1).output_shape((4, 4, 4)), "not a change of each pixel"),
        (lambda: sw.Dropout(1.0), r"\[0, 1\)"),
        (lambda: sw.LeakyReLU(2), "slope"),
        (lambda: sw.Sequential([sw.ReLU]), "expected a sideways.Layer"),
        (lambda: sw.Conv2D(3, 4, 3).output_shape((8, 8, 1)), r"expects 3 channels.*Conv2D\(1, 4, …\) would fit"),
        (lambda: sw.Conv2D(3, 4, 5, padding="valid").output_shape((4, 4, 3)), "does not fit into"),
        (lambda: sw.Dense(3, 4).output_shape((2, 2, 3)), r"Flatten\(\) or GlobalAveragePool\(\)"),
        (lambda: sw.BatchNorm(3).output_shape((4, 4, 2)), r"BatchNorm\(2\) would fit"),
        (lambda: sw.Shortcut([sw.Conv2D(2, 3, 3)]).output_shape((4, 4, 2)), "projection"),
    ],
)
def test_layers_refuse_what_cannot_be(make, words):
    with pytest.raises(sw.InputError, match=words):
        make()
