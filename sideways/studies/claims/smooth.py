"""smooth: how does Sideways, which relies on similar neighbouring frames, fare on faster and faster streams?

One frame is enough for the class in both tasks, so that only the way in which a network learns depends on the speed.
Backpropagation, frame by frame with one update for each clip, does not see the order of the frames: it is the control.
Delayed, whose gradients belong to their frames, should not need a smooth stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

from sideways.errors import DivergedError
from sideways.studies.claims.claim import CVPR2020, ArmResults, Claim, Finding, Lab, Rows, recipe
from sideways.studies.claims.figures import Curve, draw_lines, panels, save
from sideways.studies.claims.verdict import Check, Verdict, all_of, counted, difference, judged, spread
from sideways.training.config import Config
from sideways.training.report.plots import read_metrics

SIDEWAYS, DELAYED, BACKPROP = "Sideways", "Delayed", "backprop"
VARIANTS = {SIDEWAYS: "chain", DELAYED: "delayed", BACKPROP: "backprop"}  # arm → variant of the recipes
SHUFFLED = "shuffled"
Values = dict[str, dict[str, list[float]]]  # arm → case → a value for each seed


@dataclass(frozen=True)
class Stream:
    """A task whose frames move at several speeds. The frames of the fastest are also shown in random order."""

    words: str
    recipe: str  # first part of the recipes' names
    speeds: tuple[float, ...]  # pixels per frame

    @property
    def cases(self) -> list[str]:
        """The speeds as text, then the shuffled stream: neighbours in a slower stream are alike in any order."""
        return [*(f"{speed:g}" for speed in self.speeds), SHUFFLED]

    def control(self, case: str) -> str:
        """The case whose run of backprop a case is compared with: it has the same frames."""
        return self.cases[-2] if case == SHUFFLED else case


STREAMS = {
    "waves": Stream("wavelength of waves", "bands", (0.5, 2.0, 8.0)),
    "video": Stream("which real video a crop shows", "which-clip", (0.5, 2.0, 4.0)),
}


@dataclass
class Measured:
    """The results of all arms on one stream."""

    stream: Stream
    accuracy: Values
    loss: Values
    cosine: dict[str, dict[str, list[float]]]  # case → unit → a mean for each seed, of Sideways


def smooth(lab: Lab) -> Finding:
    """Train a chain by three rules at each speed, on waves and on video; compare losses, accuracies and cosines."""
    seeds, clips = lab.seeds_of(2, 3, 10), lab.pick(40, 120, 250)
    runs = lab.train_groups({name: (_arms(stream, clips), seeds) for name, stream in STREAMS.items()})
    measured = {name: _measured(stream, runs[name]) for name, stream in STREAMS.items()}
    title = f"{clips} clips, {counted(seeds)}"
    return Finding(
        verdict(SIDEWAYS, measured),
        "held-out loss in multiples of backprop's: "
        + "; ".join(
            f"{name}, {arm}: " + ", ".join(f"{_times(one.loss, arm, case)} ({case})" for case in one.stream.cases)
            for name, one in measured.items()
            for arm in (SIDEWAYS, DELAYED)
        ),
        f"vgg5 on {' and on '.join(stream.words for stream in STREAMS.values())}, 16×16 grey, {clips} clips, "
        f"{counted(seeds)}; cosines to exact bptt, of single batches",
        [row for one in measured.values() for row in _rows(one)],
        "The settings of the recipes, and speeds chosen beforehand. With five seeds the loss was, in multiples of "
        "backprop's, 1.15 at the lowest speed of waves, 2.57 at the highest, 1.58 on shuffled frames, and 1.02, 1.49 "
        "and 1.62 on video. An earlier version had waves alone, three seeds, "
        "250 clips, and trained backprop on the shuffled frames too: the loss was 1.3 times backprop's at 0.5 pixels "
        "per frame, 3.0 times at 8 (clear) and 2.0 times on shuffled frames (1.8 standard errors; the rule asks for "
        "two). Before that, accuracies were compared: they are near 1 for both rules, and hide what the loss shows.",
        [_picture(lab, measured, title)],
        exact=verdict(DELAYED, measured),
    )


def _arms(stream: Stream, clips: int) -> dict[str, Config]:
    return {
        f"{arm} {case}": _config(stream, arm, case, clips)
        for arm in VARIANTS
        for case in stream.cases
        if (arm, case) != (BACKPROP, SHUFFLED)
    }


def _measured(stream: Stream, runs: Mapping[str, ArmResults]) -> Measured:
    cosine = {case: cosines(runs[f"{SIDEWAYS} {case}"]) for case in stream.cases}
    if not any(cosine.values()):
        raise DivergedError("every run of Sideways diverged")
    accuracy, loss = (
        {
            arm: {
                case: values(runs[f"{arm} {stream.control(case) if arm == BACKPROP else case}"])
                for case in stream.cases
            }
            for arm in VARIANTS
        }
        for values in (lambda results: results.accuracies, lambda results: results.values("loss"))
    )
    return Measured(stream, accuracy, loss, cosine)


def _config(stream: Stream, arm: str, case: str, clips: int) -> Config:
    """The config of one arm at one speed, or on shuffled frames."""
    options: dict[str, Any] = {"speed": float(stream.control(case))}
    if case == SHUFFLED:
        options["shuffled"] = True
    every = max(1, clips // 5) if arm == SIDEWAYS else 0
    return recipe(f"{stream.recipe}-{VARIANTS[arm]}", clips=clips, cosine_every=every, task_options=options)


def _rows(one: Measured) -> Rows:
    """A row for each case; backprop has no runs of its own on shuffled frames."""

    def cell(values: Values, arm: str, case: str) -> str:
        return "" if (arm, case) == (BACKPROP, SHUFFLED) else spread(values[arm][case])

    return [
        {
            "task": one.stream.words,
            "px per frame": case,
            **{f"accuracy, {arm}": cell(one.accuracy, arm, case) for arm in VARIANTS},
            **{f"loss, {arm}": cell(one.loss, arm, case) for arm in VARIANTS},
            **{f"cosine, {unit}": f"{numpy.mean(values):+.2f}" for unit, values in one.cosine[case].items()},
        }
        for case in one.stream.cases
    ]


def _picture(lab: Lab, measured: dict[str, Measured], title: str) -> Path:
    """Draw the loss and each unit's cosine against the speed; shuffled frames stand apart at the right."""
    figure, axes = panels(2 * len(measured))
    for number, one in enumerate(measured.values()):
        x = [*one.stream.speeds, 2 * one.stream.speeds[-1]]
        marks: dict[str, Any] = {"xscale": "log", "xticks": x}
        lines = [Curve(arm, x, list(values.values()), apart=True) for arm, values in one.loss.items()]
        words = f"{one.stream.words}\n{title}"
        draw_lines(axes[2 * number], lines, "pixels per frame", "held-out loss (nats)", words, **marks)
        units = next(iter(filter(None, one.cosine.values())))
        lines = [
            Curve(unit, x, [one.cosine[case].get(unit, []) for case in one.stream.cases], apart=True) for unit in units
        ]
        words = "Sideways against exact bptt, mean over training"
        draw_lines(
            axes[2 * number + 1], lines, "pixels per frame", "cosine, one batch", words, **marks, ylim=(-0.8, 1.05)
        )
        for panel in axes[2 * number : 2 * number + 2]:
            panel.minorticks_off()
            panel.set_xticks(x, one.stream.cases)
    return save(figure, lab.directory / "smooth.png")


def cosines(runs: ArmResults) -> dict[str, list[float]]:
    """The mean over training of the logged cosines: unit → a mean for each seed."""
    means: dict[str, list[float]] = {}
    for directory in runs.directories:
        lines = read_metrics(directory, "cosine")
        for unit in lines[0]["cosines"]:
            means.setdefault(unit, []).append(float(numpy.mean([line["cosines"][unit] for line in lines])))
    return means


def verdict(arm: str, measured: dict[str, Measured]) -> Verdict:
    """Check that an arm's loss, over backprop's, grows with the speed, and that the arm learns at the lowest speed."""
    shuffled = [grows(arm, one, SHUFFLED, f"on shuffled frames of {name}") for name, one in measured.items()]
    words = "; ".join(check.rule for check in shuffled)
    checks = [all_of(words, shuffled)]
    for name, one in measured.items():
        fastest = one.stream.cases[-2]
        checks.append(grows(arm, one, fastest, f"at {fastest} pixels per frame of {name}"))
    for name, one in measured.items():
        slowest = one.stream.cases[0]
        shortfall = difference(one.accuracy[BACKPROP][slowest], one.accuracy[arm][slowest])[0]
        rule = f"at {slowest} pixels per frame of {name} {arm}'s accuracy at most .05 below backprop's"
        checks.append(Check(shortfall <= 0.05, rule, f"{-shortfall:+.3f}"))
    return judged(*checks)


def grows(arm: str, one: Measured, case: str, words: str) -> Check:
    """Check that loss / backprop's loss is larger than at the lowest speed: by a fifth, and by two standard errors."""
    slowest = one.stream.cases[0]
    rule = (
        f"{arm}'s held-out loss, in multiples of backprop's, is larger {words} than at {slowest}, by a fifth and by "
        "two standard errors"
    )
    if any(len(one.loss[a][c]) < 2 for a in (arm, BACKPROP) for c in (case, slowest)):
        return Check(False, rule, "needs two seeds that finished")
    rough, rough_error = _log_ratio(one.loss, arm, case)
    near, near_error = _log_ratio(one.loss, arm, slowest)
    gap, error = rough - near, (rough_error**2 + near_error**2) ** 0.5
    numbers = f"{numpy.exp(rough):.2f} against {numpy.exp(near):.2f} times; logarithms {gap:+.2f} ± {error:.2f} apart"
    return Check(bool(gap > max(numpy.log(1.2), 2 * error)), rule, numbers)


def _log_ratio(loss: Values, arm: str, case: str) -> tuple[float, float]:
    """The logarithm of loss / backprop's loss, as a difference of means over seeds, and its standard error."""
    return difference(*(numpy.log(loss[a][case]).tolist() for a in (arm, BACKPROP)))


def _times(loss: Values, arm: str, case: str) -> str:
    if not loss[arm][case] or not loss[BACKPROP][case]:
        return "no run finished"
    return f"{numpy.exp(_log_ratio(loss, arm, case)[0]):.2f}"


CLAIM = Claim("Sideways works because neighbouring frames are alike; it needs a smooth stream.", CVPR2020, smooth)
