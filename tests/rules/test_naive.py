"""Every gradient of Sideways and Delayed on a moving clip, against a naive computation from the definition.

The naive computation stores everything and computes each quantity of each tick by recursion, with layer maths of its
own: loops over the numbers of a kernel, no windows, no scratch, no schedule. Of the network it reads only the weights
and the wiring.
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
    """Convolve x (N, H, W, C) with weight (kh, kw, C, O), padding "same"."""
    n, h, w, _ = x.shape
    kh, kw = weight.shape[:2]
    padded = np.zeros((n, h + kh - 1, w + kw - 1, x.shape[3]))
    padded[:, (kh - 1) // 2 : (kh - 1) // 2 + h, (kw - 1) // 2 : (kw - 1) // 2 + w] = x
    y = np.zeros((n, h, w, weight.shape[3])) + bias
    for u, v in np.ndindex(kh, kw):
        y += padded[:, u : u + h, v : v + w] @ weight[u, v]
    return y


def conv_back(x, weight, dy):
    """The gradients (dx, dweight, dbias) of `conv`."""
    n, h, w, _ = x.shape
    kh, kw = weight.shape[:2]
    top, left = (kh - 1) // 2, (kw - 1) // 2
    padded = np.zeros((n, h + kh - 1, w + kw - 1, x.shape[3]))
    padded[:, top : top + h, left : left + w] = x
    dpadded, dweight = np.zeros_like(padded), np.zeros_like(weight)
    for u, v in np.ndindex(kh, kw):
        shifted = (slice(None), slice(u, u + h), slice(v, v + w))
        dpadded[shifted] += dy @ weight[u, v].T
        dweight[u, v] = np.einsum("nijc,nijo->co", padded[shifted], dy)
    return dpadded[:, top : top + h, left : left + w], dweight, dy.sum(axis=(0, 1, 2))


@st.composite
def graphs(draw):
    """Draw (wiring, seed). Wiring: one (inputs, merge, inputs with an adapter) per unit; the last is the only sink."""
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
    """The network of this wiring, every activation `width` channels wide."""
    units = []
    for i, (inputs, merge, adapted) in enumerate(wiring):
        adapters = {j: [sw.Conv2D(width, width, kernel=1)] if j in adapted else [] for j in inputs}
        layers = [sw.Conv2D(width * len(inputs) if merge == "concat" else width, width, kernel=3), sw.Tanh()]
        if i == len(wiring) - 1:
            layers += [sw.GlobalAveragePool(), sw.Dense(width, 3)]
        units.append(sw.Unit(f"u{i}", layers, adapters, merge))
    return sw.Network(units, (3, 4, width), seed, "float64")


class Naive:
    """The definition of a tick, quantity by quantity. parameters[t]: the parameters that the units used at tick t."""

    def __init__(self, wiring, frames, targets, parameters):
        self.wiring = {f"u{i}": w for i, w in enumerate(wiring)}
        self.names = list(self.wiring)
        self.top = self.names[-1]
        self.frames, self.targets, self.parameters = frames, targets, parameters
        self.latency = self.longest(self.top)
        for name in ("adapted", "merged", "activation", "backward"):  # computed once per (unit, tick)
            setattr(self, name, cache(getattr(self, name)))

    def longest(self, i):
        """The edges on the longest path from a frame to unit i, without the one from the frame."""
        return max(0 if j == "frame" else self.longest(j) + 1 for j in self.wiring[i][0])

    def consumers(self, i):
        return [c for c in self.names if i in self.wiring[c][0]]

    def source(self, j, t):
        """The message from j that is read at tick t, sent at t-1, or the frame of t. None if there is none yet."""
        return self.frames[t] if j == "frame" else self.activation(j, t - 1) if t > 0 else None

    def adapted(self, i, j, t, now):
        """The input from j of unit i at tick t, after its adapter with the parameters of tick `now`."""
        x, p = self.source(j, t), self.parameters[now][i]
        if x is None or j not in self.wiring[i][2]:
            return x
        return conv(x, p[f"adapter.{j}.0.weight"], p[f"adapter.{j}.0.bias"])

    def merged(self, i, t, now):
        """u: the merged inputs of unit i at tick t; None if one is missing."""
        parts = [self.adapted(i, j, t, now) for j in self.wiring[i][0]]
        if any(part is None for part in parts):
            return None
        return sum(parts) if self.wiring[i][1] == "add" else np.concatenate(parts, axis=-1)

    def activation(self, i, t):
        """a: the activation of unit i; None if an input is missing."""
        u, p = self.merged(i, t, t), self.parameters[t][i]
        if u is None:
            return None
        a = np.tanh(conv(u, p["0.weight"], p["0.bias"]))
        return a.mean(axis=(1, 2)) @ p["3.weight"] + p["3.bias"] if i == self.top else a

    def loss_gradient(self, t):
        """The gradient of the softmax cross-entropy at the top."""
        z = self.activation(self.top, t)
        p = np.exp(z - z.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        return (p - np.eye(3)[self.targets[t - self.latency]]) / len(z)

    def backward(self, i, t):
        """The backward step of unit i at tick t: (messages to its inputs, gradients); None if a message is missing."""
        if t < 0 or self.activation(i, t) is None:
            return None
        if i == self.top:
            g = self.loss_gradient(t)
        else:
            steps = [self.backward(c, t - 1) for c in self.consumers(i)]
            if any(step is None for step in steps):
                return None
            g = sum(messages[i] for messages, _ in steps)
        return self.pulled(i, g, t, t)

    def pulled(self, i, g, t, now):
        """The gradient g of unit i, pulled through the Jacobian at its inputs of tick t, with the parameters of `now`.

        Returns (messages to its inputs, gradients).
        """
        u, p = self.merged(i, t, now), self.parameters[now][i]
        hidden = np.tanh(conv(u, p["0.weight"], p["0.bias"]))
        gradients = {}
        if i == self.top:
            gradients["3.weight"], gradients["3.bias"] = hidden.mean(axis=(1, 2)).T @ g, g.sum(axis=0)
            size = hidden.shape[1] * hidden.shape[2]
            g = np.broadcast_to((g @ p["3.weight"].T)[:, None, None] / size, hidden.shape)
        du, gradients["0.weight"], gradients["0.bias"] = conv_back(u, p["0.weight"], g * (1 - hidden**2))
        messages, start = {}, 0
        for j in self.wiring[i][0]:
            width = self.adapted(i, j, t, now).shape[-1]
            part = du if self.wiring[i][1] == "add" else du[..., start : start + width]
            start += width
            if j in self.wiring[i][2]:
                part, gradients[f"adapter.{j}.0.weight"], gradients[f"adapter.{j}.0.bias"] = conv_back(
                    self.source(j, t), p[f"adapter.{j}.0.weight"], part
                )
            messages[j] = part
        return messages, gradients


class NaiveDelayed(Naive):
    """The definition of `Delayed`: the step of unit i for its activation of tick s, whenever its gradient is there."""

    def __init__(self, learn_every, *arguments):
        super().__init__(*arguments)
        self.learn_every = learn_every
        self.step = cache(self.step)

    def ends(self, i, s):
        """The ticks at which the paths from unit i at tick s end at the top, one for each path."""
        return [s] if i == self.top else [end for c in self.consumers(i) for end in self.ends(c, s + 1)]

    def marked(self, tick):
        """Whether the loss of this tick is learnt from."""
        return tick >= self.latency and (tick - self.latency) % self.learn_every == 0

    def moment(self, i, s):
        """The tick at which the gradient of the activation of tick s is complete; None if it reaches no marked loss."""
        return max((2 * end - s for end in self.ends(i, s) if self.marked(end)), default=None)

    def step(self, i, s):
        """(messages to the inputs, gradients) of unit i for its activation of tick s."""
        if i == self.top:
            return self.pulled(i, self.loss_gradient(s), s, s)
        above = [c for c in self.consumers(i) if self.moment(c, s + 1) is not None]
        return self.pulled(i, sum(self.step(c, s + 1)[0][i] for c in above), s, self.moment(i, s))

    def gradients(self, i, t):
        """The sum of the gradients of the steps that unit i takes at tick t; None without any."""
        own = [self.step(i, s)[1] for s in range(t + 1) if self.activation(i, s) is not None and self.moment(i, s) == t]
        return {key: sum(g[key] for g in own) for key in own[0]} if own else None


@pytest.mark.parametrize("rate", [None, 0.05])
@given(graphs())
def test_every_pseudo_gradient_of_a_moving_clip_is_what_the_definition_says(rate, graph):
    wiring, seed = graph
    network = build(wiring, seed)
    random = np.random.default_rng(seed)
    length = 2 * network.depth + 2
    frames, targets = random.normal(size=(length, 2, 3, 4, 2)), random.integers(0, 3, (length, 2))
    rule = sw.Sideways(network, sw.SoftmaxCrossEntropy(), sw.SGD(rate) if rate else None)
    parameters, ticks = [], []  # parameters[t]: those of tick t
    for frame, target in zip(frames, targets, strict=True):
        parameters.append(copied(network.parameters))
        ticks.append(on_host(rule.tick(frame, target)))
    naive = Naive(wiring, frames, targets, parameters)
    for t, tick in enumerate(ticks):
        steps = {i: naive.backward(i, t) for i in network.units}
        expected = {i: step[1] for i, step in steps.items() if step is not None}
        assert expected.keys() == tick.gradients.keys()
        for i, gradients in tick.gradients.items():
            assert gradients.keys() == expected[i].keys()
            scale = max(np.abs(value).max() for value in expected[i].values())
            for key, value in gradients.items():
                assert np.abs(value - expected[i][key]).max() <= 1e-12 * scale
    if rate:
        last = len(ticks) - 1
        for i, gradients in ticks[last].gradients.items():  # the tick itself still used the old value
            assert equal(network.parameters[i], {k: parameters[last][i][k] - gradients[k] * rate for k in gradients})
    else:
        assert equal(network.parameters, parameters[0])
    assert run(sw.Sideways(network, sw.SoftmaxCrossEntropy()), frames, targets)[-1].loss is not None


@pytest.mark.parametrize("rate", [None, 0.05])
@given(graphs(), st.data())
def test_every_gradient_and_update_of_delayed_on_a_moving_clip_is_what_the_definition_says(rate, graph, data):
    wiring, seed = graph
    network = build(wiring, seed)
    n = data.draw(st.integers(1, 2 * network.depth + 1))
    random = np.random.default_rng(seed)
    length = 3 * network.depth + 1
    frames, targets = random.normal(size=(length, 2, 3, 4, 2)), random.integers(0, 3, (length, 2))
    rule = sw.Delayed(network, sw.SoftmaxCrossEntropy(), sw.SGD(rate) if rate else None, learn_every=n)
    parameters, ticks = [], []
    for frame, target in zip(frames, targets, strict=True):
        parameters.append(copied(network.parameters))
        ticks.append(on_host(rule.tick(frame, target)))
    parameters.append(copied(network.parameters))
    naive = NaiveDelayed(n, wiring, frames, targets, parameters)
    for i in network.units:
        farthest, since = max(naive.ends(i, 0)), []  # since: the gradients since the unit last learnt
        for t, tick in enumerate(ticks):
            expected = naive.gradients(i, t)
            assert (expected is None) == (i not in tick.gradients)
            if expected is not None:
                scale = max(np.abs(value).max() for value in expected.values())
                for key, value in tick.gradients[i].items():
                    assert np.abs(value - expected[key]).max() <= 1e-12 * scale
                since.append(expected)
            step = {key: 0.0 for key in parameters[t][i]}
            if naive.marked(t - farthest):
                step, since = {key: (rate or 0) * sum(g[key] for g in since) for key in step}, []
            for key, before in parameters[t][i].items():
                assert np.allclose(parameters[t + 1][i][key], before - step[key], rtol=0, atol=1e-13)
