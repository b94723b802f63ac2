"""Placement of units on ranks: costs of units, balanced groups, groups by hand, and the numbers of ranks that fit."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from graphs import cases
from hypothesis import given
from hypothesis import strategies as st

import sideways as sw
from sideways import InputError
from sideways.balance import balanced, cost_per_tick, estimated_costs, measured_costs, speed_up
from sideways.models import build_model
from sideways.mpi.emulated import emulate
from sideways.mpi.placement import by_hand, check_ranks


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
    with pytest.raises(InputError, match=r"3 ranks cannot .* in 2 replica.*: mpirun -n 2, 4, 6, 8, 10 would work"):
        check_ranks(3, 5, 2)


def count_passes(unit, counts):
    """Make a unit count its forward and backward passes in `counts`, in this order."""

    def counted(function, place):
        def call(*arguments, **options):
            counts[place] += 1
            return function(*arguments, **options)

        return call

    unit.forward, unit.backward = counted(unit.forward, 0), counted(unit.backward, 1)


@given(st.data())
def test_a_unit_costs_the_passes_that_it_runs(data):
    """Any costs of a forward and of a backward pass, weighed per tick, add up to those of the passes of a period."""
    case = data.draw(cases(ticks=lambda network: 2 * network.depth, batch=1, most_units=5))
    network = case.network
    period = data.draw(st.integers(1, 2 * network.depth))
    marks = data.draw(st.sampled_from([None, network.marks(period)]))
    rule = (
        sw.Delayed(network, case.loss, learn_every=period, boundary="stream")
        if marks
        else sw.Sideways(network, case.loss, boundary="stream")
    )
    length = 2 * network.depth + period
    frames, targets = (np.resize(array, (length, *array.shape[1:])) for array in (case.frames, case.targets))
    for frame, target in zip(frames[:-period], targets[:-period], strict=True):  # until gradients reach all units
        rule.tick(frame, target)
    counts = {name: [0, 0] for name in network.units}
    for name, unit in rule.network.units.items():
        count_passes(unit, counts[name])
    for frame, target in zip(frames[-period:], targets[-period:], strict=True):
        rule.tick(frame, target)
    for name, (forwards, backwards) in counts.items():
        cost = cost_per_tick(network, name, 10.0, 0.1, marks)
        assert period * cost == pytest.approx(10.0 * forwards + 0.1 * backwards)


def test_the_estimate_counts_the_products_of_the_passes():
    network = build_model("mlp", (2, 2, 1), 3, hidden=[5, 6])  # 4 → 5 → 6 → 3
    first, second, top = 4 * 5, 5 * 6, 6 * 3  # one forward pass; a backward pass has two products, the first unit's one
    assert estimated_costs(network) == [2 * first, 3 * second, 3 * top]
    assert estimated_costs(network, network.marks(1)) == [3 * first, 4 * second, 3 * top]
    assert estimated_costs(network, network.marks(10)) == pytest.approx([1.2 * first, 1.3 * second, 1.2 * top])
    assert estimated_costs(sw.Network([sw.Unit("a", [sw.GlobalAveragePool()])], (2, 2, 1))) == [1.0]


def test_the_measured_cost_of_an_emulated_unit_is_the_time_that_it_takes():
    network = build_model("mlp", (2, 2, 1), 3, hidden=[5])
    emulate(network, 30)  # 10 ms forward, 20 ms backward
    for marks, times in ((None, [0.03, 0.03]), (network.marks(1), [0.04, 0.03]), (network.marks(5), [0.016, 0.014])):
        assert measured_costs(network, 1, marks) == pytest.approx(times, rel=0.2)
