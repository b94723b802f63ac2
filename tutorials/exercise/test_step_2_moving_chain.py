"""Step 2: frames that move, and units that learn. Every number is that of the library's Sideways, to the last bit."""

import pytest
from cases import OPTIMIZERS, chain, history
from comparison import check
from hypothesis import example, given
from hypothesis import strategies as st

import sideways as sw

LEARNING = sorted(set(OPTIMIZERS) - {"frozen"})


@pytest.mark.parametrize(
    "learning",
    [
        {},
        {"optimizer": "SGD", "clips": 2},
        {"optimizer": "Adam with a falling rate", "clips": 2},
        {"optimizer": "SGD with momentum", "update_every": "clip", "clips": 3},
    ],
    ids=["frozen-weights", "update-at-every-tick", "rate-that-falls-with-the-ticks", "update-at-the-end-of-each-clip"],
)
def test_on_moving_frames(mine, learning):
    case = chain(depth=4, batch=3, more=4, seed=1, **learning)
    check(mine.ChainSideways, case, history(sw.Sideways, case))


@example(depth=1, batch=1, loss="squared", dtype="float32", seed=0, clips=2, optimizer="SGD", update_every=1)
@example(depth=9, batch=2, loss="squared", dtype="float32", seed=1, clips=2, optimizer="SGD", update_every="clip")
@given(
    depth=st.integers(1, 6),
    batch=st.integers(1, 4),
    loss=st.sampled_from(["squared", "cross-entropy"]),
    dtype=st.sampled_from(["float32", "float64"]),
    seed=st.integers(0, 10_000),
    clips=st.integers(1, 3),
    optimizer=st.sampled_from(LEARNING),
    update_every=st.sampled_from([1, "clip"]),
)
def test_any_chain_learns_what_the_library_learns_to_the_last_bit(mine, **drawn):
    case = chain(**drawn)
    check(mine.ChainSideways, case, history(sw.Sideways, case))
