"""Motion compensation: motions are found, and undoing them makes the gradients of a gliding picture exact."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sideways as sw
from sideways.rules.diagnostics import cosine
from sideways.studies.claims.compensation import REACH, Compensated, motion, moved

STEPS = st.tuples(st.integers(-1, 1), st.integers(-1, 1))


@given(st.lists(st.tuples(*[st.integers(-REACH, REACH)] * 2), min_size=1, max_size=3), st.integers(0, 99))
def test_the_motion_of_a_window_over_a_picture_is_found_and_pictures_move_by_it(steps, seed):
    pictures = np.random.default_rng(seed).standard_normal((len(steps), 20, 20, 2))
    old = pictures[:, 4:16, 4:16]
    new = np.stack([p[4 - dy : 16 - dy, 4 - dx : 16 - dx] for p, (dy, dx) in zip(pictures, steps, strict=True)])
    assert motion(old, new).tolist() == [list(step) for step in steps]
    inner = np.zeros_like(old)
    inner[:, 4:8, 4:8] = old[:, 4:8, 4:8]
    expected = [np.roll(p, step, axis=(0, 1)) for p, step in zip(inner, steps, strict=True)]
    assert np.array_equal(moved(inner, np.array(steps)), np.stack(expected))


def glide(pattern, step, ticks, size=40):
    """A pattern (N, h, w, C) on an empty picture, gliding by a step in every tick: (T, N, H, W, C)."""
    frame = np.zeros((pattern.shape[0], size, size, pattern.shape[3]))
    frame[:, 18:22, 18:22] = pattern
    return np.stack([np.roll(frame, (t * step[0], t * step[1]), axis=(1, 2)) for t in range(ticks)])


@settings(max_examples=25)
@given(STEPS.filter(any), st.integers(2, 4), st.integers(0, 99))
def test_where_a_picture_glides_without_changing_the_compensated_gradient_is_exact(step, depth, seed):
    def unit(i):
        return sw.Unit(f"u{i}", [sw.Conv2D(2, 2, kernel=3), sw.Tanh()], inputs=[f"u{i - 1}" if i else "frame"])

    network = sw.Network([unit(i) for i in range(depth)], (40, 40, 2), seed=seed, dtype="float64")
    rng, ticks = np.random.default_rng(seed), 2 * depth - 1
    frames, targets = (glide(rng.standard_normal((2, 4, 4, 2)), step, ticks) for _ in range(2))
    exact = sw.backprop(network, sw.MeanSquaredError(), frames[0], targets[0]).gradients
    rules = {kind: kind(network, sw.MeanSquaredError()) for kind in (Compensated, sw.Sideways)}
    last = {kind: [rule.tick(*pair) for pair in zip(frames, targets, strict=True)][-1] for kind, rule in rules.items()}
    for name in exact:
        for key in exact[name]:
            assert np.allclose(last[Compensated].gradients[name][key], exact[name][key], rtol=1e-9, atol=1e-12)
    assert cosine(last[sw.Sideways].gradients["u0"], exact["u0"]) < 0.999


@pytest.mark.parametrize("boundary", ["flush", "stream"])
def test_a_still_picture_gets_the_bits_of_sideways(boundary):
    network = sw.Network(
        [
            sw.Unit("a", [sw.Conv2D(1, 2, kernel=3), sw.ReLU(), sw.MaxPool2D(2)], inputs=["frame"]),
            sw.Unit("b", [sw.Conv2D(2, 2, kernel=3), sw.ReLU()], inputs=["a"]),
            sw.Unit("head", [sw.GlobalAveragePool(), sw.Dense(4, 3)], inputs=["b", "a"], merge="concat"),
        ],
        (8, 8, 1),
    )
    frame, target = np.random.default_rng(0).standard_normal((2, 8, 8, 1)).astype("float32"), np.array([0, 2])
    rules = [kind(network, sw.SoftmaxCrossEntropy(), boundary=boundary) for kind in (Compensated, sw.Sideways)]
    for _ in range(2):
        for _ in range(6):
            ours, theirs = (rule.tick(frame, target).gradients for rule in rules)
            assert ours.keys() == theirs.keys()
            assert all(np.array_equal(ours[n][k], theirs[n][k]) for n in ours for k in ours[n])
        for rule in rules:
            rule.end_clip()
