"""Placement of units on ranks: balanced groups, groups by hand, and the numbers of ranks that fit."""

from itertools import combinations, pairwise

import numpy as np
import pytest

from mpi.placement import by_hand, check_ranks
from sideways import InputError
from sideways.balance import balanced, speed_up


def test_contiguous_groups_are_as_even_as_whole_units_allow():
    names, costs = list("abcdef"), [5.0, 1, 1, 1, 1, 5]
    assert balanced(names, costs, 3) == [["a"], ["b", "c", "d", "e"], ["f"]]
    assert balanced(names, costs, 6) == [[name] for name in names]
    assert speed_up(costs, balanced(names, costs, 2)) == 14 / 7
    rng = np.random.default_rng(0)
    for _ in range(200):
        count = int(rng.integers(1, 8))
        stages = int(rng.integers(1, count + 1))
        costs = rng.random(count).tolist()
        groups = balanced(list(range(count)), costs, stages)
        assert [name for group in groups for name in group] == list(range(count)) and all(groups)
        best = min(largest(costs, cuts) for cuts in combinations(range(1, count), stages - 1))
        assert max(sum(costs[i] for i in group) for group in groups) == pytest.approx(best)


def largest(costs, cuts):
    """The cost of the most expensive group when the units are cut at these numbers."""
    ends = [0, *cuts, len(costs)]
    return max(sum(costs[a:b]) for a, b in pairwise(ends))


def test_groups_by_hand_and_numbers_of_ranks_are_checked():
    assert by_hand(list("abc"), "0,1-2", 2) == [["a"], ["b", "c"]]
    assert check_ranks(6, 5, 2) == 3
    for text in ("", "0-1", "1-2,0", "0-2,x", "0-1,2-3"):
        with pytest.raises(InputError):
            by_hand(list("abc"), text, 2)
    with pytest.raises(InputError, match="at least 1"):
        check_ranks(2, 5, 0)
