"""stable: do skip connections make training steadier? The chain and the skip network over learning rates and seeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log

import numpy

from sideways.errors import InputError
from sideways.studies.claims.claim import CHAIN, CVPR2021, SKIP, ArmResults, Claim, Finding, Lab, Rows, recipe
from sideways.studies.claims.figures import Curve, draw_lines, panels, save
from sideways.studies.claims.verdict import Check, Verdict, counted, judged, spread

ARMS = {CHAIN: "bands-chain", SKIP: "bands-skip"}  # arm → recipe
LEAST_SEEDS = 3
RESAMPLED = 2000  # draws of the bootstrap


@dataclass
class Steadiness:
    """The steadiness of the runs of one arm at one learning rate."""

    accuracies: list[float]  # held out, one for each seed
    over_time: list[float]  # deviation of the loss from clip to clip in the last third, of each seed that finished
    failed: int  # number of runs that diverged, or ended no better than guessing

    @property
    def count(self) -> int:
        """The number of seeds."""
        return len(self.accuracies)


def stable(lab: Lab) -> Finding:
    """Train both networks at several learning rates; compare the deviations over seeds and over time."""
    seeds, clips = lab.seeds_of(5, 5, 10), lab.pick(40, 150, 250)
    if len(seeds) < LEAST_SEEDS:
        raise InputError(f"stable is about the spread over seeds: --seeds must be at least {LEAST_SEEDS}")
    rates = lab.pick((1e-3, 1e-2, 1e-1), (5e-4, 2e-3, 8e-3, 3e-2, 1e-1), (5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 3e-2, 1e-1))
    arms = {
        f"{arm}, rate {rate:g}": recipe(name, clips=clips, optimizer={"learning_rate": rate})
        for arm, name in ARMS.items()
        for rate in rates
    }
    runs = lab.train(arms, seeds)
    measured = {arm: {rate: steadiness(runs[f"{arm}, rate {rate:g}"]) for rate in rates} for arm in ARMS}
    rows: Rows = [
        {
            "arm": arm,
            "learning rate": f"{rate:g}",
            "seeds": str(one.count),
            "held-out accuracy": spread(one.accuracies),
            "loss, deviation over time": spread(one.over_time),
            "no better than guessing, or diverged": f"{one.failed} of {one.count}",
        }
        for arm in ARMS
        for rate, one in measured[arm].items()
    ]
    figure, axes = panels(2)
    size, x = f"{clips} clips, {counted(seeds)}", "learning rate (Adam)"
    lines = [Curve(arm, rates, [one.accuracies for one in measured[arm].values()]) for arm in ARMS]
    draw_lines(axes[0], lines, x, "held-out accuracy", f"Accuracy: {size}", xscale="log")
    lines = [Curve(arm, rates, [one.over_time for one in measured[arm].values()]) for arm in ARMS]
    y = "deviation of the loss over time (nats)"
    draw_lines(axes[1], lines, x, y, f"Last third of training: {size}", xscale="log")
    chain, skip = (list(measured[arm].values()) for arm in (CHAIN, SKIP))
    over_seeds, over_time = compared(chain, skip, deviation), compared(chain, skip, mean_over_time)
    return Finding(
        verdict(chain, skip),
        f"deviation over seeds {over_seeds[0]:.2f} times the chain's, over time {over_time[0]:.2f} times",
        f"the wavelength of waves (one frame is enough for both), {clips} clips, {counted(seeds)}, recipes bands-*",
        rows,
        f"Adam's learning rates {', '.join(f'{rate:g}' for rate in rates)}, all of them in the table. An earlier "
        "version asked for a ratio of .9, without an interval.",
        [save(figure, lab.directory / "stable.png")],
        "The ratios compare means over the learning rates at which all runs of both arms learnt; their intervals come "
        "from seeds drawn anew (bootstrap). The deviation over time is the deviation of the differences between "
        "neighbouring clips, divided by √2, so that learning is not taken for noise."
        + (
            "" if any(one.failed for one in chain + skip) else " No run failed; these rates say nothing about failures."
        ),
    )


def steadiness(runs: ArmResults) -> Steadiness:
    """The steadiness of one arm at one learning rate; a run that diverged counts as a run at chance."""
    over_time = [
        float(numpy.diff(losses[-max(len(losses) // 3, 2) :]).std() / 2**0.5)
        for losses in runs.metrics("train", "loss")
    ]
    guessing = -log(runs.chance())
    return Steadiness(runs.accuracies, over_time, runs.diverged + sum(loss >= guessing for loss in runs.values("loss")))


def deviation(rates: list[Steadiness], chosen: numpy.ndarray) -> numpy.ndarray:
    """The deviation of accuracies over the chosen seeds (…, n), as a mean over the rates: (…,)."""
    return numpy.mean([numpy.array(one.accuracies)[chosen].std(axis=-1, ddof=1) for one in rates], axis=0)


def mean_over_time(rates: list[Steadiness], chosen: numpy.ndarray) -> numpy.ndarray:
    """The mean deviation over time of the chosen seeds (…, n), as a mean over the rates: (…,)."""
    return numpy.mean([numpy.array(one.over_time)[chosen].mean(axis=-1) for one in rates], axis=0)


Measure = Callable[[list[Steadiness], numpy.ndarray], numpy.ndarray]


def compared(chain: list[Steadiness], skip: list[Steadiness], measure: Measure) -> tuple[float, float, float]:
    """The ratio of Skip-Sideways' measure to the chain's, and its 95 % interval (bootstrap over seeds).

    Only the learning rates at which every run of both arms learnt count; without any, the numbers are NaN.
    """
    pairs = [pair for pair in zip(chain, skip, strict=True) if not any(one.failed for one in pair)]
    if not pairs:
        return (float("nan"),) * 3
    random = numpy.random.default_rng(0)
    measures = []  # of the chain, of Skip-Sideways: for all seeds first, then for each draw of the bootstrap
    for rates in zip(*pairs, strict=True):
        count = rates[0].count
        drawn = random.integers(0, count, (RESAMPLED, count))
        measures.append(measure(list(rates), numpy.vstack([numpy.arange(count), drawn])))
    with numpy.errstate(divide="ignore", invalid="ignore"):
        ratios = measures[1] / measures[0]
    numbers = ratios[1:][~numpy.isnan(ratios[1:])]  # A draw that repeats one seed gives 0 / 0.
    if not numbers.size:
        return (float("nan"),) * 3
    low, high = numpy.quantile(numbers, (0.025, 0.975), method="nearest")
    return float(ratios[0]), float(low), float(high)


def verdict(chain: list[Steadiness], skip: list[Steadiness]) -> Verdict:
    """Check that Skip-Sideways' deviations over seeds and time are clearly below the chain's, and no more runs fail."""
    checks = []
    for words, measure in (("accuracy over seeds", deviation), ("the loss over time", mean_over_time)):
        ratio, low, high = compared(chain, skip, measure)
        rule = (
            f"Skip-Sideways' deviation of {words} is below the chain's, and the 95 % interval of their ratio is below 1"
        )
        checks.append(Check(high < 1, rule, f"{ratio:.2f} times, {low:.2f} to {high:.2f}"))
    fails = [sum(one.failed for one in arm) for arm in (chain, skip)]
    if any(fails):
        rule = "no more runs of Skip-Sideways fail than of the chain"
        checks.append(Check(fails[1] <= fails[0], rule, f"{fails[1]} against {fails[0]}"))
    return judged(*checks)


CLAIM = Claim("Skip connections make training by Sideways more stable.", CVPR2021, stable)
