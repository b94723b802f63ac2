"""Every pseudo-gradient of a moving clip, against a deliberately naive computation from the definition.

It stores everything and recomputes each quantity of each tick by recursion, with layer maths of its own: loops over
windows, einsum, no scratch, no schedule. It reads the network's weights and wiring, and nothing else of it.
"""

from functools import cache

import numpy as np
import pytest
from graphs import copied, equal, on_host, run
from hypothesis import given
from hypothesis import strategies as st

import sideways as sw

# Each unit of these networks: conv 3×3 "same" of the merged inputs (adapters: conv 1×1), then tanh; the top averages
# over the image and adds a dense layer.


def conv(x, weight, bias):
    n, h, w, _ = x.shape
    kh, kw = weight.shape[:2]
    padded = np.zeros((n, h + kh - 1, w + kw - 1, x.shape[3]))
    padded[:, (kh - 1) // 2 : (kh - 1) // 2 + h, (kw - 1) // 2 : (kw - 1) // 2 + w] = x
    y = np.empty((n, h, w, weight.shape[3]))
    for i in range(h):
        for j in range(w):
            y[:, i, j] = np.einsum("nuvc,uvco->no", padded[:, i : i + kh, j : j + kw], weight) + bias
    return y


def conv_back(x, weight, dy):
    n, h, w, _ = x.shape
    kh, kw = weight.shape[:2]
    top, left = (kh - 1) // 2, (kw - 1) // 2
    padded = np.zeros((n, h + kh - 1, w + kw - 1, x.shape[3]))
    padded[:, top : top + h, left : left + w] = x
    dpadded, dweight = np.zeros_like(padded), np.zeros_like(weight)
    for i in range(h):
        for j in range(w):
            window = (slice(None), slice(i, i + kh), slice(j, j + kw))
            dpadded[window] += np.einsum("no,uvco->nuvc", dy[:, i, j], weight)
            dweight += np.einsum("no,nuvc->uvco", dy[:, i, j], padded[window])
    return dpadded[:, top : top + h, left : left + w], dweight, dy.sum(axis=(0, 1, 2))


@st.composite
def graphs(draw):
    """Wiring: unit → (inputs, merge, inputs with an adapter), the last consuming what nobody else does."""
    count = draw(st.integers(1, 6))
    wiring = []
    for i in range(count):
        earlier = ["frame", *(f"u{j}" for j in range(i))]
        inputs = {earlier[-1], *draw(st.lists(st.sampled_from(earlier), max_size=3))}
        if i == count - 1:
            inputs |= {f"u{j}" for j in range(i) if not any(f"u{j}" in w[0] for w in wiring)}
        inputs = draw(st.permutations(sorted(inputs)))
        wiring.append((inputs, draw(st.sampled_from(["add", "concat"])), draw(st.sets(st.sampled_from(inputs)))))
    return wiring, draw(st.integers(0, 999))


def build(wiring, seed, width=2):
    units = []
    for i, (inputs, merge, adapted) in enumerate(wiring):
        adapters = {j: [sw.Conv2D(width, width, kernel=1)] if j in adapted else [] for j in inputs}
        layers = [sw.Conv2D(width * len(inputs) if merge == "concat" else width, width, kernel=3), sw.Tanh()]
        if i == len(wiring) - 1:
            layers += [sw.GlobalAveragePool(), sw.Dense(width, 3)]
        units.append(sw.Unit(f"u{i}", layers, adapters, merge))
    return sw.Network(units, (3, 4, width), seed, "float64")


class Naive:
    """The definition, read aloud. parameters[t]: what the units used at tick t."""

    def __init__(self, wiring, frames, targets, parameters):
        self.wiring = {f"u{i}": w for i, w in enumerate(wiring)}
        self.names = list(self.wiring)
        self.top = self.names[-1]
        self.frames, self.targets, self.parameters = frames, targets, parameters
        self.latency = self.longest(self.top)
        for name in ("adapted", "merged", "activation", "backward"):
            setattr(self, name, cache(getattr(self, name)))

    def longest(self, i):
        return max(0 if j == "frame" else self.longest(j) + 1 for j in self.wiring[i][0])

    def consumers(self, i):
        return [c for c in self.names if i in self.wiring[c][0]]

    def source(self, j, t):
        """What arrives from j at tick t: sent at t-1, or the frame of t; None if there is none yet."""
        return self.frames[t] if j == "frame" else self.activation(j, t - 1) if t > 0 else None

    def adapted(self, i, j, t):
        x, p = self.source(j, t), self.parameters[t][i]
        if x is None or j not in self.wiring[i][2]:
            return x
        return conv(x, p[f"adapter.{j}.0.weight"], p[f"adapter.{j}.0.bias"])

    def merged(self, i, t):
        parts = [self.adapted(i, j, t) for j in self.wiring[i][0]]
        if any(part is None for part in parts):
            return None
        return sum(parts) if self.wiring[i][1] == "add" else np.concatenate(parts, axis=-1)

    def activation(self, i, t):
        u, p = self.merged(i, t), self.parameters[t][i]
        if u is None:
            return None
        a = np.tanh(conv(u, p["0.weight"], p["0.bias"]))
        return a.mean(axis=(1, 2)) @ p["3.weight"] + p["3.bias"] if i == self.top else a

    def loss_gradient(self, t):
        z = self.activation(self.top, t)
        p = np.exp(z - z.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        return (p - np.eye(3)[self.targets[t - self.latency]]) / len(z)

    def backward(self, i, t):
        """(messages to inputs, gradients) that unit i makes at tick t; None if a message it needs is missing."""
        if t < 0 or self.activation(i, t) is None:
            return None
        if i == self.top:
            g = self.loss_gradient(t)
        else:
            made = [self.backward(c, t - 1) for c in self.consumers(i)]
            if any(m is None for m in made):
                return None
            g = sum(m[0][i] for m in made)
        u, p = self.merged(i, t), self.parameters[t][i]
        hidden = np.tanh(conv(u, p["0.weight"], p["0.bias"]))
        gradients = {}
        if i == self.top:
            gradients["3.weight"], gradients["3.bias"] = hidden.mean(axis=(1, 2)).T @ g, g.sum(axis=0)
            size = hidden.shape[1] * hidden.shape[2]
            g = np.broadcast_to((g @ p["3.weight"].T)[:, None, None] / size, hidden.shape)
        du, gradients["0.weight"], gradients["0.bias"] = conv_back(u, p["0.weight"], g * (1 - hidden**2))
        messages, start = {}, 0
        for j in self.wiring[i][0]:
            width = self.adapted(i, j, t).shape[-1]
            part = du if self.wiring[i][1] == "add" else du[..., start : start + width]
            start += width
            if j in self.wiring[i][2]:
                part, gradients[f"adapter.{j}.0.weight"], gradients[f"adapter.{j}.0.bias"] = conv_back(
                    self.source(j, t), p[f"adapter.{j}.0.weight"], part
                )
            messages[j] = part
        return messages, gradients


@pytest.mark.parametrize("rate", [None, 0.05])
@given(graphs())
def test_every_pseudo_gradient_of_a_moving_clip_is_what_the_definition_says(rate, graph):
    wiring, seed = graph
    network = build(wiring, seed)
    random = np.random.default_rng(seed)
    length = 2 * network.depth + 2
    frames, targets = random.normal(size=(length, 2, 3, 4, 2)), random.integers(0, 3, (length, 2))
    rule = sw.Sideways(network, sw.SoftmaxCrossEntropy(), sw.SGD(rate) if rate else None)
    used, ticks = [], []
    for frame, target in zip(frames, targets, strict=True):
        used.append(copied(network.parameters))
        ticks.append(on_host(rule.tick(frame, target)))
    naive = Naive(wiring, frames, targets, used)
    for t, tick in enumerate(ticks):
        made = {i: naive.backward(i, t) for i in network.units}
        assert {i for i in made if made[i] is not None} == set(tick.gradients)
        for i, gradients in tick.gradients.items():
            assert gradients.keys() == made[i][1].keys()
            scale = max(np.abs(value).max() for value in made[i][1].values())
            for key, value in gradients.items():
                assert np.abs(value - made[i][1][key]).max() <= 1e-12 * scale
    if rate:
        last = len(ticks) - 1
        for i, gradients in ticks[last].gradients.items():  # the old value was used within the tick
            assert equal(network.parameters[i], {k: used[last][i][k] - gradients[k] * rate for k in gradients})
    else:
        assert equal(network.parameters, used[0])
    assert run(sw.Sideways(network, sw.SoftmaxCrossEntropy()), frames, targets)[-1].loss is not None
