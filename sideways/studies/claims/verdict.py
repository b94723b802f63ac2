"""Verdicts follow from checks. A check is a rule in words, the measured numbers, and whether they satisfy the rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sideways.training.metrics import mean_and_spread, standard_error

HOLDS, IN_PART, NOT_HERE, NOT_RUN = "holds", "holds in part", "does not hold here", "not run"


@dataclass(frozen=True)
class Check:
    """A rule that was applied to measured numbers. `finding.json` holds these fields by name."""

    true: bool
    rule: str  # the rule with its threshold, in words
    found: str  # the numbers that the rule was applied to


@dataclass(frozen=True)
class Verdict:
    """The verdict in a word or two, and the checks that led to it."""

    word: str
    checks: tuple[Check, ...]

    @property
    def why(self) -> str:
        """Every check in words, with its numbers."""
        return "; ".join(f"{'yes' if check.true else 'NO'}: {check.rule} ({check.found})" for check in self.checks)


def judged(*checks: Check) -> Verdict:
    """The verdict of these checks. The first is the claim itself: if it fails, the claim does not hold here; if only
    others fail, it holds in part."""
    if not checks[0].true:
        return Verdict(NOT_HERE, checks)
    return Verdict(HOLDS if all(check.true for check in checks) else IN_PART, checks)


def all_of(words: str, checks: Sequence[Check]) -> Check:
    """Check that all of these hold; without any, this fails."""
    return Check(
        bool(checks) and all(check.true for check in checks), words, "; ".join(check.found for check in checks)
    )


def at_least(subject: str, values: Sequence[float], least: float, unit: str = "") -> Check:
    """Check that the mean over seeds reaches a threshold."""
    rule = f"{subject} at least {least:g}{unit}"
    if not values:
        return _no_run(rule)
    return Check(mean_and_spread(values)[0] >= least, rule, spread(values, unit=unit))


def at_chance(subject: str, accuracies: Sequence[float], chance: float, samples: int) -> Check:
    """Check that a mean accuracy lies within three standard errors of chance; samples: held-out clips of each seed."""
    error = standard_error(chance, samples * max(len(accuracies), 1))
    rule = f"{subject} within three standard errors of chance, {chance:.3f} ± {3 * error:.3f}"
    if not accuracies:
        return _no_run(rule)
    return Check(abs(mean_and_spread(accuracies)[0] - chance) <= 3 * error, rule, spread(accuracies))


def above(subject: str, values: Sequence[float], other: str, others: Sequence[float], least: float, unit: str) -> Check:
    """Check that one mean exceeds another by at least `least`; if negative, that one is at most so much below.

    The numbers are the difference and its standard error over seeds.
    """
    if least > 0:
        relation = f"at least {least:g}{unit} above"
    elif least < 0:
        relation = f"at most {-least:g}{unit} below"
    else:
        relation = "above"
    rule = f"{subject} {relation} {other}"
    if not values or not others:
        return _no_run(rule)
    gap, error = difference(values, others)
    return Check(gap >= least if least else gap > 0, rule, f"{gap:+.3g} ± {error:.2g}{unit}")


def clearly_above(
    subject: str, values: Sequence[float], other: str, others: Sequence[float], samples: int, fixed: bool = False
) -> Check:
    """Check that one mean accuracy exceeds another by more than twice the standard error of their difference.

    samples: held-out clips of each seed; fixed: all seeds are judged by one set of clips, not each by its own.
    """
    rule = f"{subject} above {other} by more than two standard errors"
    if not values or not others:
        return _no_run(rule)
    gap, over_seeds = difference(values, others)
    sampling = sampling_variance(values, samples, fixed) + sampling_variance(others, samples, fixed)
    error = (over_seeds**2 + sampling) ** 0.5
    return Check(gap > 2 * error, rule, f"{gap:+.3f} ± {error:.3f}")


def clearly_above_in_pairs(subject: str, gains: Sequence[Sequence[float]], other: str, unit: str = "") -> Check:
    """Check that mean gains over a rival exceed 0 by more than twice their standard error over seeds and samples.

    gains: seed → sample → how far the subject is above the rival on this very sample. See `mean_and_error`.
    """
    gap, error = mean_and_error(gains)
    rule = f"{subject} above {other} by more than two standard errors"
    return Check(gap > 2 * error, rule, f"{gap:+.2f} ± {error:.2f}{unit}")


def mean_and_error(gains: Sequence[Sequence[float]]) -> tuple[float, float]:
    """The mean of gains, seed → sample → number, and its standard error over seeds and samples.

    error² = σ²(mean of each seed) / seeds + mean over seeds of σ²(samples) / samples

    The second part is not divided by the number of seeds: seeds may share their samples. The first is 0 for one seed,
    the second for one sample.
    """
    deviations = [mean_and_spread(of_seed)[1] for of_seed in gains]
    mean, over_seeds = mean_and_spread([mean_and_spread(of_seed)[0] for of_seed in gains])
    over_samples = sum(d**2 for d in deviations) / len(gains) / len(gains[0])
    return mean, (over_seeds**2 / len(gains) + over_samples) ** 0.5


def sampling_variance(accuracies: Sequence[float], samples: int, fixed: bool) -> float:
    """The variance of a mean accuracy that is due to the limited number of held-out samples.

    Without this variance, a single seed would prove too much. k right answers of n count as an accuracy of
    (k + 1) / (n + 2): a few samples that are all right do not prove an accuracy of 1.
    """
    n = samples if fixed else samples * len(accuracies)
    correct = mean_and_spread(accuracies)[0] * n
    return standard_error((correct + 1) / (n + 2), n) ** 2


def difference(values: Sequence[float], others: Sequence[float]) -> tuple[float, float]:
    """The difference of two means over seeds, and its standard error over seeds (0 for single seeds)."""
    mean, deviation = mean_and_spread(values)
    other_mean, other_deviation = mean_and_spread(others)
    return mean - other_mean, (deviation**2 / len(values) + other_deviation**2 / len(others)) ** 0.5


def difference_text(values: Sequence[float], others: Sequence[float]) -> str:
    """The difference of two means over seeds: `+0.012 ± 0.005 (standard error)`, or `+0.012 (one seed)`."""
    if not values or not others:
        return "no run finished"
    gap, error = difference(values, others)
    if min(len(values), len(others)) < 2:
        return f"{gap:+.3f} (one seed)"
    return f"{gap:+.3f} ± {error:.3f} (standard error)"


def counted(seeds: Sequence[int]) -> str:
    """The number of seeds in words: `1 seed`, `5 seeds`."""
    return f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}"


def spread(values: Sequence[float], digits: int = 3, unit: str = "") -> str:
    """The mean and standard deviation over seeds, such as `0.998 ± 0.001`."""
    if not values:
        return ""
    mean, deviation = mean_and_spread(values)
    return f"{mean:.{digits}f}" + (f" ± {deviation:.{digits}f}" if len(values) > 1 else "") + unit


def _no_run(rule: str) -> Check:
    return Check(False, rule, "no run finished")
