"""How a verdict is reached: by checks, each a sentence with its numbers and whether it is true; none is hard-coded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sideways.training.metrics import mean_and_spread, standard_error

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
    rule = f"{what} at least {least:g}{unit}"
    return Check(mean_and_spread(values)[0] >= least, rule, spread(values, unit=unit)) if values else _none(rule)


def at_chance(what: str, accuracies: Sequence[float], chance: float, samples: int) -> Check:
    """Whether a mean accuracy lies within three standard errors of chance; samples: held-out clips of each seed."""
    error = standard_error(chance, samples * max(len(accuracies), 1))
    rule = f"{what} within three standard errors of chance, {chance:.3f} ± {3 * error:.3f}"
    if not accuracies:
        return _none(rule)
    return Check(abs(mean_and_spread(accuracies)[0] - chance) <= 3 * error, rule, spread(accuracies))


def above(what: str, values: Sequence[float], other: str, others: Sequence[float], least: float, unit: str) -> Check:
    """Whether one mean exceeds another by at least so much; least < 0: whether it is at most so much below."""
    far = f"at least {least:g}{unit} above" if least > 0 else f"at most {-least:g}{unit} below" if least else "above"
    rule = f"{what} {far} {other}"
    if not values or not others:
        return _none(rule)
    gap = mean_and_spread(values)[0] - mean_and_spread(others)[0]
    return Check(gap >= least if least else gap > 0, rule, f"{gap:+.3g}{unit}")


def clearly_above(
    what: str, values: Sequence[float], other: str, others: Sequence[float], samples: int, fixed: bool = False
) -> Check:
    """Whether one mean accuracy exceeds another by more than twice the standard error of the difference."""
    rule = f"{what} above {other} by more than two standard errors"
    if not values or not others:
        return _none(rule)
    gap, error = difference(values, others)[0], error_of(values, others, samples, fixed)
    return Check(gap > 2 * error, rule, f"{gap:+.3f} ± {error:.3f}")


def error_of(values: Sequence[float], others: Sequence[float], samples: int, fixed: bool = False) -> float:
    """The standard error of the difference of two mean accuracies: that over seeds, and that of the held-out samples.

    So that a single seed proves no more than it can, nor an accuracy of 1 on a few samples, which counts as
    (k + 1) / (n + 2). fixed: all seeds are judged by the same samples, not each by its own.
    """
    sampling = 0.0
    for some in (values, others):
        n = samples if fixed else samples * len(some)
        sampling += standard_error((mean_and_spread(some)[0] * n + 1) / (n + 2), n) ** 2
    return (difference(values, others)[1] ** 2 + sampling) ** 0.5


def difference(values: Sequence[float], others: Sequence[float]) -> tuple[float, float]:
    """Of two means over seeds, and its standard error over seeds (0 for single ones, which have none)."""
    (mean, deviation), (other, spread_of_other) = mean_and_spread(values), mean_and_spread(others)
    return mean - other, (deviation**2 / len(values) + spread_of_other**2 / len(others)) ** 0.5


def difference_text(values: Sequence[float], others: Sequence[float]) -> str:
    """The difference of two means over seeds: `+0.012 ± 0.005 (standard error)`, or of single ones."""
    if not values or not others:
        return "no run finished"
    gap, error = difference(values, others)
    return (
        f"{gap:+.3f} (one seed)" if min(len(values), len(others)) < 2 else f"{gap:+.3f} ± {error:.3f} (standard error)"
    )


def _none(rule: str) -> Check:
    return Check(False, rule, "no run finished")


def counted(seeds: Sequence[int]) -> str:
    """`1 seed`, `5 seeds`."""
    return f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}"


def spread(values: Sequence[float], digits: int = 3, unit: str = "") -> str:
    """`0.998 ± 0.001`: mean and standard deviation over seeds."""
    if not values:
        return ""
    mean, deviation = mean_and_spread(values)
    return f"{mean:.{digits}f}" + (f" ± {deviation:.{digits}f}" if len(values) > 1 else "") + unit
