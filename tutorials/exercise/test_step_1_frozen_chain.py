"""Step 1: a chain with frozen weights. Activations climb and gradients fall by one unit per tick."""

import numpy as np
from cases import Case, Moment, arrays_of, chain
from comparison import check
from hypothesis import example, given
from hypothesis import strategies as st

import sideways as sw

EXAMPLE = chain(depth=4, batch=3, more=4)


def expected_of(case: Case, still: bool):
    """What step 1 must do, without a rule that ticks: from plain forward passes and `sw.backprop`.

    On moving frames the pseudo-gradients are not compared: they are those of the student, and so is their place here.
    """
    network, ((frames, targets),) = case.network(), case.clips
    names, depth, arrays, moments = list(network.units), network.depth, arrays_of(network), []
    for t in range(len(frames)):
        value, output = None, None
        if t >= depth - 1:
            exact = sw.backprop(network, case.loss, frames[t - depth + 1], targets[t - depth + 1])
            value, output = exact.loss, exact.output
        ran = [name for k, name in enumerate(names) if t >= 2 * depth - 2 - k]  # unit k, counted from 0 at the bottom
        gradients = {name: exact.gradients[name] if still else {} for name in ran}
        moments.append(Moment(f"tick {t}", sw.Tick(value, output, gradients), arrays))
    return moments


def test_the_units_start_one_after_the_other_and_the_top_sees_each_frame_depth_minus_1_ticks_late(mine):
    check(mine.ChainSideways, EXAMPLE, expected_of(EXAMPLE, still=False), gradients=False)


def test_on_a_still_picture_every_pseudo_gradient_is_the_gradient_of_backpropagation(mine):
    case = chain(depth=4, batch=3, more=4, still=True)
    check(mine.ChainSideways, case, expected_of(case, still=True))


@example(depth=1, batch=1, loss="cross-entropy", dtype="float32", seed=0, still=True)
@example(depth=9, batch=2, loss="squared", dtype="float32", seed=1, still=True)
@given(
    depth=st.integers(1, 6),
    batch=st.integers(1, 4),
    loss=st.sampled_from(["squared", "cross-entropy"]),
    dtype=st.sampled_from(["float32", "float64"]),
    seed=st.integers(0, 10_000),
    still=st.booleans(),
)
def test_it_is_so_on_any_chain(mine, depth, batch, loss, dtype, seed, still):
    case = chain(depth, batch, loss, dtype, seed, still)
    check(mine.ChainSideways, case, expected_of(case, still), gradients=still)


def test_each_pseudo_gradient_of_a_still_picture_is_the_slope_of_the_loss(mine):
    case = chain(depth=3, batch=2, still=True)
    network, ((frames, targets),) = case.network(), case.clips
    rule = case.make(mine.ChainSideways, network)
    for frame, target in zip(frames, targets, strict=True):
        made = rule.tick(frame, target).gradients
    for name, unit in network.units.items():
        if name not in made:
            raise AssertionError(f"{name} has made no pseudo-gradient at tick {len(frames) - 1}")
        weight, before, step = unit.parameters["0.weight"], unit.parameters["0.weight"].copy(), 1e-6
        values = []
        for sign in (1, -1):
            weight[0, 0] = before[0, 0] + sign * step
            values.append(sw.backprop(network, case.loss, frames[0], targets[0]).loss)
        weight[...] = before
        slope, gradient = (values[0] - values[1]) / (2 * step), made[name]["0.weight"][0, 0]
        if not np.isclose(gradient, slope, rtol=1e-5, atol=1e-9):
            raise AssertionError(f"{name}: the loss has the slope {slope:.6f}, the pseudo-gradient is {gradient:.6f}")
