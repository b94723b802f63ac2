"""Hypothesis strategies: random networks of units, chains and skip graphs, with clips to run them on."""

from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st
from moved import host

import sideways as sw


@dataclass
class Case:
    """A network, its loss, and a clip: frames (T, N, H, W, C), targets one per frame."""

    network: sw.Network
    loss: sw.Loss
    frames: np.ndarray
    targets: np.ndarray

    def __repr__(self):
        units = ", ".join(map(repr, self.network.units.values()))
        return f"Case([{units}], {self.network.input_shape}, {self.network.dtype}, frames {self.frames.shape})"


SMOOTH = [sw.Tanh, sw.Sigmoid]
ANY = [sw.Tanh, sw.ReLU, lambda: sw.LeakyReLU(0.1), sw.Sigmoid]


@st.composite
def networks(draw, most_units=6, smooth=False, dtypes=("float32", "float64"), norm=True, seed=None, below=False):
    """Draw a directed acyclic graph of units.

    Every unit reads the unit before it and perhaps earlier ones or the frame again, merged by add or concat, through
    adapters where shapes differ. smooth: no ReLU and no max pooling. below: the first unit is the identity.
    """
    input_shape = (draw(st.integers(3, 6)), draw(st.integers(3, 6)), draw(st.integers(1, 3)))
    count = draw(st.integers(1, most_units))
    shapes = {"frame": input_shape}
    units = []
    if below:
        units, shapes["below"] = [sw.Unit("below", [])], input_shape
    for i in range(count):
        last = i == count - 1
        earlier = list(shapes)[:-1] if i else []
        previous = list(shapes)[-1]
        extra = draw(st.lists(st.sampled_from(earlier), unique=True, max_size=3)) if earlier else []
        sources = draw(st.permutations([previous, *extra]))
        if last:  # the top also reads every unit that no other reads
            consumed = {j for unit in units for j in unit.inputs}
            sources += [u.name for u in units if u.name not in consumed and u.name not in sources]
        merge = draw(st.sampled_from(["add", "concat"]))
        width = draw(st.integers(1, 3))
        size = min((shapes[j][:2] for j in sources), key=lambda hw: hw[0] * hw[1])
        adapters = {}
        for j in sources:
            layers = []
            if shapes[j][:2] != size:
                pool = sw.AveragePool2D if smooth else draw(st.sampled_from([sw.AveragePool2D, sw.MaxPool2D]))
                factor = (shapes[j][0] // size[0], shapes[j][1] // size[1])
                kernel = (shapes[j][0] - (size[0] - 1) * factor[0], shapes[j][1] - (size[1] - 1) * factor[1])
                layers.append(pool(kernel, stride=factor))
            if (merge == "add" and len(sources) > 1) or draw(st.booleans()):
                layers.append(sw.Conv2D(shapes[j][2], width, kernel=1))
            adapters[j] = layers
        merged = [sw.Sequential(adapters[j]).output_shape(shapes[j]) for j in sources]
        channels = sum(shape[2] for shape in merged) if merge == "concat" else merged[0][2]
        kind = draw(st.sampled_from(SMOOTH if smooth else ANY))
        out = draw(st.integers(1, 3))
        conv = sw.Conv2D(channels, out, kernel=draw(st.integers(1, 3)))
        body = [conv]
        if norm and draw(st.booleans()):
            body.append(sw.BatchNorm(out))
        body.append(kind())
        if draw(st.booleans()):
            body = [sw.Shortcut(body, [] if channels == out else [sw.Conv2D(channels, out, kernel=1)])]
        if min(size) >= 2 and draw(st.booleans()):
            pool = sw.AveragePool2D if smooth else draw(st.sampled_from([sw.AveragePool2D, sw.MaxPool2D]))
            body.append(pool(2))
        if last:
            body += [draw(st.sampled_from([sw.GlobalAveragePool, sw.Flatten]))()]
            features = sw.Sequential(body).output_shape((*size, channels))[0]
            body.append(sw.Dense(features, 3, init="glorot"))
        units.append(sw.Unit(f"u{i}", body, adapters, merge))
        shapes[f"u{i}"] = units[-1].body.output_shape((*size, channels))
    return sw.Network(
        units, input_shape, draw(st.integers(0, 999)) if seed is None else seed, draw(st.sampled_from(dtypes))
    )


@st.composite
def cases(draw, ticks=None, static=False, batch=None, **options):
    """Draw a network with a clip of random frames; static: with one frame and target at every tick.

    ticks: network → the length of the clip.
    """
    network = draw(networks(**options))
    length = 2 * network.depth - 1 + 3 if ticks is None else ticks(network)
    n = draw(st.integers(1, 3)) if batch is None else batch
    random = np.random.default_rng(draw(st.integers(0, 999)))
    frames = random.normal(size=(length, n, *network.input_shape)).astype(network.dtype)
    if draw(st.booleans()):
        loss, targets = sw.SoftmaxCrossEntropy(), random.integers(0, 3, (length, n))
    else:
        loss, targets = sw.MeanSquaredError(), random.normal(size=(length, n, 3)).astype(network.dtype)
    if static:
        frames[:], targets[:] = frames[0], targets[0]
    return Case(network, loss, frames, targets)


def learn_everies(network):
    """Draw a learn_every: 1, a few, and around the number 2D-1 from which on gradients never meet."""
    return st.integers(1, 2 * network.depth + 2)


def run(rule, frames, targets):
    """Run a rule on a clip. Returns its ticks, with arrays on the host."""
    return [on_host(rule.tick(frame, target)) for frame, target in zip(frames, targets, strict=True)]


def on_host(result):
    """A `Tick`, or the result of `backprop` or `bptt`, with its arrays on the host."""
    return replace(result, loss=host(result.loss), output=host(result.output), gradients=host(result.gradients))


def backprop(*arguments, **options):
    """Call `sideways.backprop`; arrays of the result are on the host."""
    return on_host(sw.backprop(*arguments, **options))


def bptt(*arguments, **options):
    """Call `sideways.bptt`; arrays of the result are on the host."""
    return on_host(sw.bptt(*arguments, **options))


def equal(one, other):
    """Whether two nested dictionaries of arrays are equal to the last bit."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    one, other = host((one, other))
    return one.dtype == other.dtype and bool(np.array_equal(one, other))


def distance(one, other):
    """The Euclidean distance between two nested dictionaries of arrays."""
    if isinstance(one, dict):
        return sum(distance(one[key], other[key]) ** 2 for key in one) ** 0.5
    one, other = host((one, other))
    return float(np.linalg.norm(one - other))


def copied(tree):
    """A deep copy of nested dictionaries of arrays, on the host."""
    return {key: copied(value) for key, value in tree.items()} if isinstance(tree, dict) else host(tree).copy()


def chain(depth=3, **options):
    """A chain of dense units u0, u1, … on frames (2, 2, 1), for three classes."""
    units = [sw.Unit("u0", [sw.Flatten(), sw.Dense(4, 3), sw.Tanh()])]
    units += [sw.Unit(f"u{i}", [sw.Dense(3, 3), sw.Tanh()], [f"u{i - 1}"]) for i in range(1, depth)]
    return sw.Network(units, (2, 2, 1), dtype="float64", **options)


def clip(ticks, seed=0, n=2):
    """Random frames (T, N, 2, 2, 1) and labels (T, N) for `chain`."""
    random = np.random.default_rng(seed)
    return random.normal(size=(ticks, n, 2, 2, 1)), random.integers(0, 3, (ticks, n))
