"""Losses, optimizers and learning-rate schedules, compared with independent computations of their formulas."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sideways as sw


@given(st.integers(1, 4), st.integers(2, 5), st.floats(0, 0.9), st.integers(0, 99))
def test_the_gradients_of_the_losses_agree_with_finite_differences(n, k, smoothing, seed):
    random = np.random.default_rng(seed)
    z = random.normal(size=(n, k))
    for loss, target in (
        (sw.SoftmaxCrossEntropy(smoothing), random.integers(0, k, n)),
        (sw.MeanSquaredError(), random.normal(size=(n, k))),
        (sw.LogMeanSquaredError(0.01 + smoothing), random.normal(size=(n, k))),
    ):
        value, gradient = loss(z, target)
        for i in np.ndindex(z.shape):
            step = np.zeros_like(z)
            step[i] = 1e-6
            numeric = (loss(z + step, target)[0] - loss(z - step, target)[0]) / 2e-6
            assert numeric == pytest.approx(gradient[i], abs=1e-8)
        if isinstance(loss, sw.MeanSquaredError):
            assert value == pytest.approx(((z - target) ** 2).mean())
        elif isinstance(loss, sw.LogMeanSquaredError):
            errors = ((z - target) ** 2).mean(axis=1) + 0.01 + smoothing
            assert value == pytest.approx(math.log(math.prod(errors)) / (2 * n))
        else:
            q = (1 - smoothing) * np.eye(k)[target] + smoothing / k
            log = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
            assert value == pytest.approx(-(q * log).sum(axis=1).mean())


@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 99))
def test_the_logarithmic_loss_of_frames_is_their_mean_psnr_but_for_constants(n, channels, seed):
    random = np.random.default_rng(seed)
    truth, guess = random.normal(size=(2, n, 4, 5, channels))
    guess *= np.arange(1, n + 1)[:, None, None, None]  # the samples' errors differ
    ratios = [10 * math.log10(4**2 / ((a - b) ** 2).mean()) for a, b in zip(truth, guess, strict=True)]  # of span 4
    value, gradient = sw.LogMeanSquaredError(1e-12)(guess, truth)
    assert 20 * math.log10(4) - 20 / math.log(10) * value == pytest.approx(np.mean(ratios))
    assert gradient.shape == guess.shape and gradient.dtype == guess.dtype


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cross_entropy_is_exact_for_logits_of_ten_thousand(dtype):
    z = np.array([[1e4, -1e4], [-1e4, 1e4]], dtype)
    value, gradient = sw.SoftmaxCrossEntropy()(z, np.array([0, 0]))
    assert value == 1e4 and value.dtype == dtype == gradient.dtype
    assert np.array_equal(gradient, [[0, 0], [-0.5, 0.5]])


def steps(optimizer, count=5, seed=0):
    """Update one parameter some times. Returns its values and the gradients."""
    random = np.random.default_rng(seed)
    parameter = {"weight": random.normal(size=(3, 2))}
    copy, values, gradients = optimizer.for_unit("u"), [parameter["weight"].copy()], []
    for tick in range(count):
        gradients.append(random.normal(size=(3, 2)))
        before = gradients[-1].copy()
        copy.update(parameter, {"weight": gradients[-1]}, tick)
        assert np.array_equal(gradients[-1], before)
        values.append(parameter["weight"].copy())
    return values, gradients


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_sgd_is_its_formula(nesterov, decay):
    values, gradients = steps(sw.SGD(0.1, momentum=0.9, nesterov=nesterov, weight_decay=decay))
    theta, v = values[0], 0
    for value, g in zip(values[1:], gradients, strict=True):
        g = g + decay * theta
        v = 0.9 * v + g
        theta = theta - 0.1 * (g + 0.9 * v if nesterov else v)
        assert np.allclose(value, theta, rtol=1e-12)


def test_adam_is_its_formula():
    values, gradients = steps(sw.Adam(0.1, weight_decay=0.05))
    theta, m, v = values[0], 0, 0
    for n, (value, g) in enumerate(zip(values[1:], gradients, strict=True), start=1):
        g = g + 0.05 * theta
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        theta = theta - 0.1 * (m / (1 - 0.9**n)) / (np.sqrt(v / (1 - 0.999**n)) + 1e-8)
        assert np.allclose(value, theta, rtol=1e-12)


def test_adam_with_nesterov_is_its_formula():
    values, gradients = steps(sw.Adam(0.1, beta1=0.8, nesterov=True))
    theta, m, v = values[0], 0, 0
    for n, (value, g) in enumerate(zip(values[1:], gradients, strict=True), start=1):
        m, v = 0.8 * m + 0.2 * g, 0.999 * v + 0.001 * g**2
        ahead = 0.8 * m / (1 - 0.8 ** (n + 1)) + 0.2 * g / (1 - 0.8**n)
        theta = theta - 0.1 * ahead / (np.sqrt(v / (1 - 0.999**n)) + 1e-8)
        assert np.allclose(value, theta, rtol=1e-12)


def test_rmsprop_is_its_formula():
    values, gradients = steps(sw.RMSProp(0.1, decay=0.8))
    theta, v = values[0], 0
    for value, g in zip(values[1:], gradients, strict=True):
        v = 0.8 * v + 0.2 * g**2
        theta = theta - 0.1 * g / (np.sqrt(v) + 1e-8)
        assert np.allclose(value, theta, rtol=1e-12)


@pytest.mark.parametrize("make", [sw.SGD, sw.Adam, sw.RMSProp])
@given(st.integers(0, 999), st.floats(0, 0.99))
def test_orthogonal_gradients_leave_out_what_the_gradients_before_have_in_common(make, seed, beta):
    random = np.random.default_rng(seed)
    values, gradients = [{"a": random.normal(size=(2, 3))} for _ in range(2)], random.normal(size=(5, 2, 3))
    plain, orthogonal = make(0.1).for_unit("u"), make(0.1, orthogonal=beta).for_unit("u")
    values[1]["a"][...] = values[0]["a"]
    before = []
    for tick, g in enumerate(gradients):
        weights = (1 - beta) * beta ** np.arange(len(before))[::-1]  # of the running mean, written out
        common = sum((w * h for w, h in zip(weights, before, strict=True)), np.zeros_like(g))
        norm = np.sum(common**2)
        new = g - (np.sum(g * common) / norm if norm > 1e-25 else 0) * common
        assert norm < 1e-25 or abs(np.sum(new * common)) < 1e-9
        plain.update(values[0], {"a": new}, tick)
        orthogonal.update(values[1], {"a": g.copy()}, tick)
        assert np.allclose(values[0]["a"], values[1]["a"], rtol=1e-7, atol=1e-9)
        before.append(g)


def test_a_units_gradient_is_shortened_as_one_vector_and_only_if_it_is_longer():
    parameters = {"a": np.zeros(2), "b": np.zeros(1)}
    sw.SGD(1.0, clip_norm=1.0).for_unit("u").update(parameters, {"a": np.array([3.0, 0]), "b": np.array([4.0])}, 0)
    assert np.allclose(parameters["a"], [-0.6, 0]) and np.allclose(parameters["b"], [-0.8])
    sw.SGD(1.0, clip_norm=100.0).for_unit("u").update(parameters, {"a": np.array([3.0, 0])}, 0)
    assert np.allclose(parameters["a"], [-3.6, 0])


def test_rates_scale_a_units_learning_rate_and_zero_freezes_it():
    for factor in (0.0, 0.5, 1.0):
        parameters = {"a": np.zeros(1)}
        sw.SGD(0.1, rates={"u": factor}).for_unit("u").update(parameters, {"a": np.ones(1)}, 0)
        assert parameters["a"] == -0.1 * factor


def test_schedules_are_their_formulas_and_count_ticks():
    assert [sw.Step(10, 0.5)(t) for t in (0, 9, 10, 25)] == [1, 1, 0.5, 0.25]
    assert [sw.Cosine(100, 0.2)(t) for t in (0, 100, 200)] == [1, 0.2, 0.2]
    assert sw.Cosine(100)(25) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    assert [sw.WarmUp(4)(t) for t in (0, 3, 10)] == [0.25, 1, 1]
    values, gradients = steps(sw.SGD(0.1, schedule=sw.Step(2, 0.1)), count=3)
    assert np.allclose(values[3], values[2] - 0.01 * gradients[2], rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: sw.SGD(-0.1), "learning rate must be positive"),
        (lambda: sw.SGD(float("nan")), "learning rate must be positive"),
        (lambda: sw.SGD(0.1, momentum=1.0), r"momentum lies in \[0, 1\)"),
        (lambda: sw.SGD(0.1, nesterov=True), "nesterov needs"),
        (lambda: sw.SGD(0.1, weight_decay=-1), "weight_decay"),
        (lambda: sw.SGD(0.1, clip_norm=0), "clip_norm"),
        (lambda: sw.SGD(0.1, clip_norm=float("inf")), "left out"),
        (lambda: sw.SGD(0.1, rates={"u": -1}), "'u'"),
        (lambda: sw.SGD(0.1, orthogonal=1.0), "orthogonal"),
        (lambda: sw.Adam(0.1, beta1=1.0), "beta1"),
        (lambda: sw.RMSProp(0.1, decay=1.0), "decay"),
        (lambda: sw.Cosine(0), "ticks ≥ 1"),
        (lambda: sw.Step(0), "every ≥ 1"),
        (lambda: sw.WarmUp(0), "at least one tick"),
        (lambda: sw.SoftmaxCrossEntropy(1.0), "label_smoothing"),
        (lambda: sw.MeanSquaredError().check(np.zeros((2, 3)), (2, 2)), "output's shape"),
        (lambda: sw.LogMeanSquaredError(0.0), "epsilon must be positive"),
        (lambda: sw.LogMeanSquaredError().check(np.zeros((2, 3)), (2, 2)), "output's shape"),
        (lambda: sw.MeanSquaredError().check(np.full((2, 2), np.inf), (2, 2)), "not finite"),
    ],
)
def test_losses_optimizers_and_schedules_refuse_what_cannot_be(make, words):
    with pytest.raises(sw.InputError, match=words):
        make()
