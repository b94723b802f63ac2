"""Diagnostics: cosines over many clips, held against gradients that are averaged by hand."""

import graphs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sideways as sw
from sideways.rules.diagnostics import mean_cosines, mean_cosines_of
from sideways.studies.claims.compensation import Compensated


def flat(gradients):
    return np.concatenate([array.ravel() for array in gradients.values()])


def angle(one, other):
    lengths = np.linalg.norm(one) * np.linalg.norm(other)
    return one @ other / lengths if lengths else 0.0


@settings(max_examples=30)
@given(graphs.cases(dtypes=("float64",)), st.integers(1, 3), st.integers(0, 99))
def test_cosines_of_several_rules_are_those_of_gradients_averaged_by_hand(case, count, seed):
    network, loss, rng = case.network, case.loss, np.random.default_rng(seed)
    clips = [(rng.normal(size=case.frames.shape), case.targets) for _ in range(count)]
    parameters = graphs.copied(network.parameters)
    kinds = (sw.Sideways, Compensated)
    found = mean_cosines_of([kind(network, loss) for kind in kinds], clips)
    assert graphs.equal(network.parameters, parameters)
    assert mean_cosines(sw.Sideways(network, loss), clips) == found[0]

    exact = [graphs.bptt(network, loss, *clip, network.depth - 1).gradients for clip in clips]
    for kind, (of_means, single) in zip(kinds, found, strict=True):
        pseudo = []  # for each clip: unit → the mean of its gradients over the ticks
        for clip in clips:
            ticks = [tick.gradients for tick in graphs.run(kind(network, loss), *clip)]
            pseudo.append({name: np.mean([flat(t[name]) for t in ticks if name in t], axis=0) for name in of_means})
        for name in of_means:
            ours, true = [p[name] for p in pseudo], [flat(e[name]) for e in exact]
            assert of_means[name] == pytest.approx(angle(sum(ours), sum(true)), abs=1e-6)
            angles = [angle(a, b) for a, b in zip(ours, true, strict=True)]
            assert single[name] == pytest.approx(np.mean(angles), abs=1e-6)
