"""stable: do skip connections make training steadier? Chains and skip networks over depths, learning rates and seeds.

Parameters change at every tick, as they do on a stream: with one update for each clip, no parameter changes while a
gradient is on its way, and nothing could become unsteady for want of matching frames or weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log
from typing import Any

import numpy

from sideways.errors import InputError
from sideways.studies.claims.claim import CHAIN, CVPR2021, SKIP, ArmResults, Claim, Finding, Lab, Rows, recipe
from sideways.studies.claims.figures import Curve, draw_lines, panels, save
from sideways.studies.claims.verdict import Check, Verdict, counted, judged, spread
from sideways.training.config import Config

SHORTCUT, EXACT_CHAIN, EXACT_SKIP = "Sideways, shortcuts", "Delayed, chain", "Delayed, skip network"
ARMS: dict[str, dict[str, Any]] = {  # arm → changes to the recipe of the chain
    CHAIN: {},
    SKIP: {"model": "vgg5-skip"},
    SHORTCUT: {"model": "vgg5-shortcut"},
    EXACT_CHAIN: {"rule": "delayed"},
    EXACT_SKIP: {"model": "vgg5-skip", "rule": "delayed"},
}
SKIPS = {6: ["conv1>conv3", "conv3>conv5"], 8: ["conv1>conv3", "conv3>conv5", "conv5>conv7"]}  # units → skip edges
GRID = ((6, 1e-3), (6, 2e-3), (6, 4e-3), (8, 1e-3), (8, 2e-3))  # units, learning rate
LEAST_SEEDS = 3
RESAMPLED = 2000  # draws of the bootstrap
Cell = tuple[int, float]


@dataclass
class Steadiness:
    """The steadiness of the runs of one arm in one cell of the grid."""

    accuracies: list[float]  # held out, one for each seed
    over_time: list[float]  # deviation of the loss from clip to clip in the last third, of each seed that finished
    failed: int  # number of runs that diverged, or ended no better than guessing

    @property
    def count(self) -> int:
        """The number of seeds."""
        return len(self.accuracies)


def stable(lab: Lab) -> Finding:
    """Train both networks by both rules at each depth and rate; compare the deviations over seeds and over time."""
    seeds, clips = lab.seeds_of(3, 7, 10), lab.pick(30, 100, 100)
    if len(seeds) < LEAST_SEEDS:
        raise InputError(f"stable is about the spread over seeds: --seeds must be at least {LEAST_SEEDS}")
    grid = lab.pick(GRID[1:3], GRID, GRID)
    runs = lab.train({_label(arm, cell): _config(arm, cell, clips) for arm in ARMS for cell in grid}, seeds)
    measured = {arm: [steadiness(runs[_label(arm, cell)]) for cell in grid] for arm in ARMS}
    rows: Rows = [
        {
            "arm": arm,
            "units": str(units),
            "learning rate": f"{rate:g}",
            "seeds": str(one.count),
            "held-out accuracy": spread(one.accuracies),
            "loss, deviation over time": spread(one.over_time),
            "no better than guessing, or diverged": f"{one.failed} of {one.count}",
        }
        for arm in ARMS
        for (units, rate), one in zip(grid, measured[arm], strict=True)
    ]
    figure, axes = panels(2)
    size, x = f"{clips} clips, {counted(seeds)}", "units, learning rate (Adam)"
    for panel, values, y, title in (
        (axes[0], lambda one: one.accuracies, "held-out accuracy", f"Accuracy: {size}"),
        (axes[1], lambda one: one.over_time, "deviation of the loss over time (nats)", "Last third of training"),
    ):
        lines = [Curve(arm, range(len(grid)), [values(one) for one in ones]) for arm, ones in measured.items()]
        draw_lines(panel, lines, x, y, title)
        panel.set_xticks(range(len(grid)), [f"{units}, {rate:g}" for units, rate in grid])
    papers, exact = (verdict(measured[chain], measured[skip]) for chain, skip in PAIRS)
    return Finding(
        papers,
        "deviation over seeds, skip network over chain: "
        + "; ".join(
            f"{rule} {compared(measured[chain], measured[skip], deviation)[0]:.2f} times, failed runs "
            f"{_failed(measured[skip])} against {_failed(measured[chain])}"
            for rule, (chain, skip) in zip(("Sideways", "Delayed"), PAIRS, strict=True)
        ),
        f"the wavelength of waves (one frame is enough for all), clips of 32 frames, an update at every tick, {clips} "
        f"clips, {counted(seeds)}, recipe bands-steady",
        rows,
        f"The grid (units, Adam's learning rate) {', '.join(f'({units}, {rate:g})' for units, rate in grid)} was fixed "
        "beforehand; at 2e-3 with 6 units one scan had been seen. Earlier rules had one update for each clip, which "
        "cannot show what the claim is about: the deviation over seeds was .91 times the chain's (95 %: .35 to 3.36), "
        "over time .95 times (.85 to 1.09); and before that, a ratio of .9 was asked for, without an interval.",
        [save(figure, lab.directory / "stable.png")],
        "The ratios compare means over the cells of the grid in which each arm learnt with at least one seed; a run "
        "that failed counts with the accuracy of guessing. Their intervals come from seeds drawn anew (bootstrap). The "
        "deviation over time is the deviation of the differences between neighbouring clips, divided by √2, so that "
        "learning is not taken for noise.",
        exact,
    )


PAIRS = ((CHAIN, SKIP), (EXACT_CHAIN, EXACT_SKIP))  # under the papers' rule, under the exact one


def _label(arm: str, cell: Cell) -> str:
    return f"{arm}, {cell[0]} units, rate {cell[1]:g}"


def _config(arm: str, cell: Cell, clips: int) -> Config:
    """The config of one arm in one cell of the grid."""
    units, rate = cell
    options: dict[str, Any] = {"middle": units - 3}
    if ARMS[arm].get("model") == "vgg5-skip":
        options["skip"] = SKIPS[units]
    changes = ARMS[arm] | {"model_options": options, "optimizer": {"learning_rate": rate}}
    return recipe("bands-steady", clips=clips, **changes)


def _failed(cells: list[Steadiness]) -> int:
    return sum(one.failed for one in cells)


def steadiness(runs: ArmResults) -> Steadiness:
    """The steadiness of one arm in one cell; a run that diverged counts as a run at chance."""
    over_time = [
        float(numpy.diff(losses[-max(len(losses) // 3, 2) :]).std() / 2**0.5)
        for losses in runs.metrics("train", "loss")
    ]
    guessing = -log(runs.chance())
    return Steadiness(runs.accuracies, over_time, runs.diverged + sum(loss >= guessing for loss in runs.values("loss")))


def deviation(cells: list[Steadiness], chosen: numpy.ndarray) -> numpy.ndarray:
    """The deviation of accuracies over the chosen seeds (…, n), as a mean over the cells: (…,)."""
    return numpy.mean([numpy.array(one.accuracies)[chosen].std(axis=-1, ddof=1) for one in cells], axis=0)


def mean_over_time(cells: list[Steadiness], chosen: numpy.ndarray) -> numpy.ndarray:
    """The mean deviation over time of the chosen seeds (…, n), as a mean over the cells: (…,).

    A seed that diverged has none; another one stands in for it.
    """
    return numpy.mean([numpy.array(one.over_time)[chosen % len(one.over_time)].mean(axis=-1) for one in cells], axis=0)


Measure = Callable[[list[Steadiness], numpy.ndarray], numpy.ndarray]


def compared(chain: list[Steadiness], skip: list[Steadiness], measure: Measure) -> tuple[float, float, float]:
    """The ratio of the skip network's measure to the chain's, and its 95 % interval (bootstrap over seeds).

    Only the cells in which each arm learnt with at least one seed count; without any, the numbers are NaN.
    """
    pairs = [pair for pair in zip(chain, skip, strict=True) if all(one.failed < one.count for one in pair)]
    if not pairs:
        return (float("nan"),) * 3
    random = numpy.random.default_rng(0)
    measures = []  # of the chain, of Skip-Sideways: for all seeds first, then for each draw of the bootstrap
    for cells in zip(*pairs, strict=True):
        count = cells[0].count
        drawn = random.integers(0, count, (RESAMPLED, count))
        measures.append(measure(list(cells), numpy.vstack([numpy.arange(count), drawn])))
    with numpy.errstate(divide="ignore", invalid="ignore"):
        ratios = measures[1] / measures[0]
    numbers = ratios[1:][~numpy.isnan(ratios[1:])]  # A draw that repeats one seed gives 0 / 0.
    if not numbers.size:
        return (float("nan"),) * 3
    low, high = numpy.quantile(numbers, (0.025, 0.975), method="nearest")
    return float(ratios[0]), float(low), float(high)


def verdict(chain: list[Steadiness], skip: list[Steadiness]) -> Verdict:
    """Check that the skip network's deviations over seeds and time are clearly smaller, and that no more runs fail."""
    checks = []
    for words, measure in (("accuracy over seeds", deviation), ("the loss over time", mean_over_time)):
        ratio, low, high = compared(chain, skip, measure)
        rule = (
            f"the skip network's deviation of {words} is below the chain's, and the 95 % interval of their ratio is "
            "below 1"
        )
        checks.append(Check(high < 1, rule, f"{ratio:.2f} times, {low:.2f} to {high:.2f}"))
    fails = [_failed(arm) for arm in (chain, skip)]
    if any(fails):
        rule = "no more runs of the skip network fail than of the chain"
        checks.append(Check(fails[1] <= fails[0], rule, f"{fails[1]} against {fails[0]}"))
    return judged(*checks)


CLAIM = Claim("Skip connections make training by Sideways more stable.", CVPR2021, stable)
