"""How a verdict is reached: by checks, each a sentence with its numbers and whether it is true; none is hard-coded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sideways.metrics import mean_and_spread, standard_error

HOLDS, IN_PART, NOT_HERE, NOT_RUN = "holds", "holds in part", "does not hold here", "not run"


@dataclass(frozen=True)
class Check:
    """A rule that was applied to measured numbers."""

    true: bool
    rule: str  # the rule with its threshold, in words
    found: str  # the numbers it was applied to


@dataclass(frozen=True)
class Verdict:
    """The word, and the checks that led to it."""

    word: str
    checks: tuple[Check, ...]

    @property
    def why(self) -> str:
        return "; ".join(f"{'yes' if check.true else 'NO'}: {check.rule} ({check.found})" for check in self.checks)


def judged(*checks: Check) -> Verdict:
    """The first check is the claim itself: if it fails, the claim does not hold here; if another fails, in part."""
    word = NOT_HERE if not checks[0].true else HOLDS if all(check.true for check in checks) else IN_PART
    return Verdict(word, checks)


def at_least(what: str, values: Sequence[float], least: float, unit: str = "") -> Check:
    """Whether the mean over seeds reaches a threshold."""
    mean, _ = mean_and_spread(values)
    return Check(mean >= least, f"{what} at least {least:g}{unit}", spread(values, unit=unit))


def at_chance(what: str, accuracies: Sequence[float], chance: float, samples: int) -> Check:
    """Whether a mean accuracy lies within three standard errors of chance; samples: held-out clips of each seed."""
    mean, _ = mean_and_spread(accuracies)
    error = standard_error(chance, samples * len(accuracies))
    return Check(
        abs(mean - chance) <= 3 * error,
        f"{what} within three standard errors of chance, {chance:.3f} ± {3 * error:.3f}",
        spread(accuracies),
    )


def above(what: str, values: Sequence[float], other: str, others: Sequence[float], least: float, unit: str) -> Check:
    """Whether one mean exceeds another by so much."""
    gap = mean_and_spread(values)[0] - mean_and_spread(others)[0]
    return Check(gap >= least, f"{what} at least {least:g}{unit} above {other}", f"{gap:+.3g}{unit}")


def clearly_above(what: str, values: Sequence[float], other: str, others: Sequence[float], samples: int) -> Check:
    """Whether one mean accuracy exceeds another by more than twice the standard error of the difference.

    That over seeds, and that of the held-out samples of each seed: so that a single seed proves no more than it can.
    """
    gap, error = difference(values, others)
    sampling = (standard_error(mean_and_spread(some)[0], samples * len(some)) ** 2 for some in (values, others))
    error = (error**2 + sum(sampling)) ** 0.5
    return Check(gap > 2 * error, f"{what} above {other} by more than two standard errors", f"{gap:+.3f} ± {error:.3f}")


def difference(values: Sequence[float], others: Sequence[float]) -> tuple[float, float]:
    """Of two means over seeds, and its standard error."""
    (mean, deviation), (other, spread_of_other) = mean_and_spread(values), mean_and_spread(others)
    return mean - other, (deviation**2 / len(values) + spread_of_other**2 / len(others)) ** 0.5


def counted(seeds: Sequence[int]) -> str:
    """`1 seed`, `5 seeds`."""
    return f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}"


def spread(values: Sequence[float], digits: int = 3, unit: str = "") -> str:
    """`0.998 ± 0.001`: mean and standard deviation over seeds."""
    if not values:
        return ""
    mean, deviation = mean_and_spread(values)
    return f"{mean:.{digits}f}" + (f" ± {deviation:.{digits}f}" if len(values) > 1 else "") + unit
