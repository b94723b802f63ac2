"""Tests of every layer against central finite differences, over random shapes, and of `check_layer` on wrong layers."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moved import backward, forward, host

import sideways as sw
from sideways.backend import namespace

sizes = st.integers(1, 5)
channels = st.integers(1, 3)


class Steadily(sw.Layer):
    """Adds a change to each moment that is the same from one to the next, to a tenth of the noise x."""

    def __init__(self, channels):
        self.channels = channels

    def forward(self, x, train=True):
        pixels = np.arange(x[0].size).reshape(x.shape[1:])
        steps = 0.6 + 0.3 * np.cos(pixels % self.channels + pixels // 7)  # the change of each pixel
        at = np.arange(x.shape[-1]) // self.channels
        return 0.1 * x + sw.to_device((steps * at).astype(x.dtype)), None

    def backward(self, dy, saved):
        return 0.1 * dy, {}


@st.composite
def layers(draw):
    """A layer of any kind, and an input shape that fits it."""
    h, w, c = draw(st.integers(3, 6)), draw(st.integers(3, 6)), draw(channels)
    image, out = (h, w, c), draw(channels)
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    padding = draw(st.sampled_from(["same", "valid"]))
    gate = sw.GatedChange(
        [sw.Conv2D(4 * out + c, 2, kernel=3), sw.Tanh(), sw.Conv2D(2, out, kernel=1)], out, draw(st.integers(1, 7))
    )
    kinds = {
        "conv": lambda: (sw.Conv2D(c, out, draw(pair), draw(pair), padding), image),
        "dense": lambda: (sw.Dense(c, out), (c,)),
        "relu": lambda: (sw.ReLU(), image),
        "leaky": lambda: (sw.LeakyReLU(draw(st.floats(0, 0.9))), image),
        "tanh": lambda: (sw.Tanh(), (c,)),
        "sigmoid": lambda: (sw.Sigmoid(), image),
        "square": lambda: (sw.Square(), image),
        "max": lambda: (sw.MaxPool2D(draw(pair), draw(pair), padding), image),
        "average": lambda: (sw.AveragePool2D(draw(pair), draw(pair), padding), image),
        "global": lambda: (sw.GlobalAveragePool(), image),
        "norm": lambda: (sw.BatchNorm(c), image),
        "norm of vectors": lambda: (sw.BatchNorm(c), (c,)),
        "dropout": lambda: (sw.Dropout(draw(st.floats(0, 0.8))), image),
        "flatten": lambda: (sw.Flatten(), image),
        "upsample": lambda: (sw.Upsample2D(draw(pair)), image),
        "changes": lambda: (sw.Changes(out + 1), (h, w, (out + 1) * c)),
        "changes of vectors": lambda: (sw.Changes(2), (2 * c,)),
        "changes alone": lambda: (sw.Changes(out + 1, newest=False), (h, w, (out + 1) * c)),
        "gate": lambda: (gate, (h, w, 4 * out + c)),
        "gate of a steady change": lambda: (sw.layers.Sequential([Steadily(out), gate]), (h, w, 4 * out + c)),
        "shortcut": lambda: (
            sw.Shortcut(
                [sw.Conv2D(c, out, kernel=3), sw.BatchNorm(out), sw.Tanh()],
                [] if c == out else [sw.Conv2D(c, out, kernel=1)],
            ),
            image,
        ),
    }
    return kinds[draw(st.sampled_from(sorted(kinds)))]()


@given(layers(), st.integers(2, 3), st.booleans(), st.integers(0, 99))
def test_every_layer_agrees_with_finite_differences_and_keeps_the_rules_of_a_layer(layer_and_shape, batch, train, seed):
    layer, shape = layer_and_shape
    report = sw.check_layer(layer, shape, batch=batch, train=train, seed=seed)
    # A failure can be chance: about one of 10⁵ pairs of numbers is closer than a step, at a kink of max-pooling.
    assert report.passed, str(report)


def test_finite_differences_computed_here_agree_with_a_dense_layer():
    random = np.random.default_rng(0)
    layer = sw.Dense(3, 2)
    layer.initialise(random, "float64")
    x, r = random.normal(size=(4, 3)), random.normal(size=(4, 2))
    dx, gradients = backward(layer, r, forward(layer, x)[1])
    for array, claimed in ((x, dx), (layer.weight, gradients["weight"]), (layer.bias, gradients["bias"])):
        for i in np.ndindex(array.shape):
            values = []
            for step in (1e-6, -2e-6):
                array[i] += step
                values.append((forward(layer, x)[0] * r).sum())
            array[i] += 1e-6
            assert (values[0] - values[1]) / 2e-6 == pytest.approx(claimed[i], abs=1e-8)


class Scaled(sw.Layer):
    """A correct layer, y = s x. Wrong layers derive from it."""

    parameter_names = ("scale",)

    def initialise(self, rng, dtype):
        self.set_arrays(dtype, scale=np.ones(1))

    def forward(self, x, train=True):
        return x * self.scale, x

    def backward(self, dy, saved):
        return dy * self.scale, {"scale": (dy * saved).sum().reshape(1)}


class WrongGradient(Scaled):
    def backward(self, dy, saved):
        return dy * self.scale, {"scale": 1.01 * (dy * saved).sum().reshape(1)}


class WrongInputGradient(Scaled):
    def backward(self, dy, saved):
        return dy * (self.scale + 0.01), super().backward(dy, saved)[1]


class WritesIntoInput(Scaled):
    def forward(self, x, train=True):
        y = x * self.scale
        x *= 1.5
        return y, x / 1.5


class WritesIntoGradient(Scaled):
    def backward(self, dy, saved):
        result = super().backward(dy.copy(), saved)
        dy += 1
        return result


class WrongShape(Scaled):
    def output_shape(self, shape):
        return (*shape, 1)


class Remembers(Scaled):
    def forward(self, x, train=True):
        self.x = x
        return x * self.scale, None

    def backward(self, dy, saved):
        return super().backward(dy, self.x)


class NotContiguous(Scaled):
    def forward(self, x, train=True):
        return namespace(x).asfortranarray(x * self.scale), x


class MissingGradient(Scaled):
    def backward(self, dy, saved):
        return dy * self.scale, {}


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (WrongGradient, "gradient of scale .* wrong"),
        (WrongInputGradient, "gradient of the input .* wrong"),
        (WritesIntoInput, "writes into x"),
        (WritesIntoGradient, "writes into dy"),
        (WrongShape, "output_shape promises"),
        (Remembers, "another forward in between"),
        (NotContiguous, "y is not C-contiguous"),
        (MissingGradient, r"backward gives gradients of \[\]"),
    ],
)
def test_check_layer_finds_what_is_wrong_with_a_layer_and_says_it(layer, words):
    assert sw.check_layer(Scaled(), (3, 2)).passed
    report = sw.check_layer(layer(), (3, 2))
    assert not report.passed
    assert re.search(words, str(report)), str(report)


class NoLayerAtAll:
    def forward(self, x, train=True):
        return x, None

    def backward(self, dy, saved):
        return dy, {}


class LooksLikeALayer(NoLayerAtAll):
    def initialise(self, rng, dtype):
        pass

    def output_shape(self, shape):
        return shape


class NoBackward(sw.Layer):
    def forward(self, x, train=True):
        return x, None


class NoForward(sw.Layer):
    def backward(self, dy, saved):
        return dy, {}


class NamesAreText(Scaled):
    parameter_names = "scale"


class NeverSet(Scaled):
    parameter_names = ("scale", "bias")


class NeverSetState(Scaled):
    state_names = ("mean",)


class PlainNumber(Scaled):
    def initialise(self, rng, dtype):
        self.scale = 2.0


class OtherDtype(Scaled):
    def initialise(self, rng, dtype):
        self.set_arrays("float32", scale=np.ones(1))


class ForwardReturnsNoPair(Scaled):
    def forward(self, x, train=True):
        return x * self.scale


class ForwardReturnsNoArray(Scaled):
    def forward(self, x, train=True):
        return [1.0], x


class BackwardReturnsNothing(Scaled):
    def backward(self, dy, saved):
        pass


class BackwardReturnsNoPair(Scaled):
    def backward(self, dy, saved):
        return dy * self.scale


class BackwardReturnsATriple(Scaled):
    def backward(self, dy, saved):
        return (*super().backward(dy, saved), 3)


class BackwardReturnsNoInputGradient(Scaled):
    def backward(self, dy, saved):
        return None, super().backward(dy, saved)[1]


class GradientsInAList(Scaled):
    def backward(self, dy, saved):
        dx, gradients = super().backward(dy, saved)
        return dx, list(gradients.values())


class GradientIsNone(Scaled):
    def backward(self, dy, saved):
        return super().backward(dy, saved)[0], {"scale": None}


class GradientOfSomethingElse(Scaled):
    def backward(self, dy, saved):
        dx, gradients = super().backward(dy, saved)
        return dx, {"weight": gradients["scale"]}


class GradientOfAnotherShape(Scaled):
    def backward(self, dy, saved):
        dx, gradients = super().backward(dy, saved)
        return dx, {"scale": gradients["scale"][None, :]}


class InputGradientOfAnotherShape(Scaled):
    def backward(self, dy, saved):
        dx, gradients = super().backward(dy, saved)
        return dx[0], gradients


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (Scaled, "Scaled is a class: check one of its layers, such as Scaled()"),
        (NoLayerAtAll(), "the layer has no function `initialise`: derive its class from sideways.Layer"),
        (LooksLikeALayer(), "the layer has no `parameters` and `state`: derive its class from sideways.Layer"),
        (NoForward(), "the layer has no function `forward` of its own: write forward(self, x, train)"),
        (NoBackward(), "the layer has no function `backward` of its own: write backward(self, dy, saved)"),
        (NamesAreText(), "`parameter_names` must be a tuple of names, such as (\"weight\",), not 'scale'"),
        (NeverSet(), "`parameter_names` lists 'bias', but the layer has no attribute bias: set it in `initialise`"),
        (NeverSetState(), "`state_names` lists 'mean', but the layer has no attribute mean: set it in `initialise`"),
        (PlainNumber(), "the attribute scale is a float, not an array: set it in `initialise`"),
        (OtherDtype(), 'scale is float32 after `initialise` with dtype "float64"'),
        (ForwardReturnsNoPair(), "forward must return the pair (y, saved), not an array alone"),
        (ForwardReturnsNoArray(), "forward must return an array as y, not a list"),
        (BackwardReturnsNothing(), "backward must return the pair (dx, gradients), not None"),
        (BackwardReturnsNoPair(), "backward must return the pair (dx, gradients), not an array alone"),
        (BackwardReturnsATriple(), "backward must return the pair (dx, gradients), not a tuple of 3"),
        (BackwardReturnsNoInputGradient(), "backward must return an array as dx, not None"),
        (GradientsInAList(), "backward must return gradients as a dict, name → array, not a list"),
        (GradientIsNone(), "backward must return an array as the gradient of scale, not None"),
        (GradientOfSomethingElse(), "backward gives gradients of ['weight'], parameters are ['scale']"),
        (GradientOfAnotherShape(), "the gradient of scale has shape"),
        (InputGradientOfAnotherShape(), "dx has shape (3, 2), x has (2, 3, 2)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_check_layer_says_in_a_line_what_a_badly_written_layer_lacks(layer, words):
    report = sw.check_layer(layer, (3, 2))
    assert not report.passed
    assert any(sentence.startswith(words) for sentence in report.broken), report
    assert all("\n" not in sentence for sentence in report.broken)


@given(layers(), st.sampled_from(["float32", "float64"]))
def test_no_layer_changes_the_dtype_or_writes_into_its_arguments(layer_and_shape, dtype):
    layer, shape = layer_and_shape
    layer.initialise(np.random.default_rng(0), dtype)
    x = sw.to_device(np.random.default_rng(1).normal(size=(2, *shape)), dtype)
    before = host(x).copy()
    y, saved = layer.forward(x)
    dy = sw.to_device(np.ones(y.shape, dtype))
    dx, gradients = layer.backward(dy, saved)
    assert np.array_equal(host(x), before) and (host(dy) == 1).all()
    layer.update_statistics(saved)
    arrays = [y, dx, *gradients.values(), *layer.parameters.values(), *layer.state.values()]
    assert {array.dtype for array in arrays} == {np.dtype(dtype)}
    assert y.shape == (2, *layer.output_shape(shape)) and dx.shape == x.shape
