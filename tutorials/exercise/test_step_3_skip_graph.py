"""Step 3: any graph of units. Every number is that of the library's Sideways, to the last bit."""

import pytest
from cases import OPTIMIZERS, chain, graph, history, wired
from comparison import check
from hypothesis import example, given
from hypothesis import strategies as st

import sideways as sw

LEARNING = sorted(set(OPTIMIZERS) - {"frozen"})


def test_a_chain_is_a_graph_too(mine):
    case = chain(depth=4, batch=3, more=4, seed=1, optimizer="SGD", clips=2)
    check(mine.SkipSideways, case, history(sw.Sideways, case))


@pytest.mark.parametrize(
    ("wiring", "merge", "norm"),
    [
        (["frame", "unit1", "unit2", "unit3 unit1"], "concat", False),
        (["frame", "unit1", "unit2", "unit3 unit1 frame"], "add", False),
        (["frame", "unit1", "unit2 unit1", "unit3 unit2 unit1", "unit4 unit3 unit2 unit1"], "add", False),
        (["frame", "frame", "unit1 unit2", "unit2", "unit3 unit4"], "concat", False),
        (["frame", "frame", "unit1 unit2", "unit3 unit1"], "add", False),
        (["frame", "unit1", "unit2", "unit3 unit1"], "concat", True),
    ],
    ids=[
        "one-skip-edge",
        "a-skip-of-the-frame-too",
        "four-consumers",
        "branches-of-different-length",
        "one-array-for-two-readers",
        "batch-normalisation",
    ],
)
def test_on_frozen_weights(mine, wiring, merge, norm):
    case = wired(wiring, merge, norm)
    check(mine.SkipSideways, case, history(sw.Sideways, case))


@example(
    count=12, batch=2, images=True, loss="squared", dtype="float32", seed=1, clips=2, optimizer="SGD", update_every=1
)
@given(
    count=st.integers(1, 7),
    batch=st.integers(1, 4),
    images=st.booleans(),
    loss=st.sampled_from(["squared", "cross-entropy"]),
    dtype=st.sampled_from(["float32", "float64"]),
    seed=st.integers(0, 10_000),
    clips=st.integers(1, 2),
    optimizer=st.sampled_from(LEARNING),
    update_every=st.sampled_from([1, "clip"]),
)
def test_any_graph_learns_what_the_library_learns_to_the_last_bit(mine, **drawn):
    case = graph(**drawn)
    check(mine.SkipSideways, case, history(sw.Sideways, case))
