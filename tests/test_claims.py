"""The claims: verdicts follow from numbers by their rules; each experiment runs, tiny, and reports what it measured."""

from dataclasses import replace

import pytest

from sideways.claims import CLAIMS
from sideways.claims.claim import Bench


class Tiny(Bench):
    """Two clips of each run, and two samples."""

    def train(self, arms, seeds, group=""):
        small = {
            arm: replace(
                c,
                clips=2,
                batch=2,
                evaluation_clips=1,
                evaluate_every=min(c.evaluate_every, 1),
                cosine_every=min(c.cosine_every, 1),
            )
            for arm, c in arms.items()
        }
        return super().train(small, seeds[:1], group)


@pytest.fixture
def finding(tmp_path):
    return lambda name, kind=Tiny: CLAIMS[name].run(kind(tmp_path, "quick"))


@pytest.mark.parametrize("name", ["temporal", "stable", "converges", "regularises", "smooth", "future"])
def test_each(finding, name):
    found = finding(name)
    print(found.number, found.verdict.why)
    for row in found.rows:
        print(row)
