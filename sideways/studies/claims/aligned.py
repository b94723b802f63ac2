"""aligned: do pseudo-gradients point where the exact gradient points? If not, does the displacement explain the sign?

The signs are predicted by the `sign_law`, with nothing fitted. The counter-check undoes the displacement
(`Compensated`): then the sign should return, for waves and for a pan over real video, to which the law's formula does
not apply.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy

from sideways.network import Network
from sideways.rules.diagnostics import mean_cosines_of
from sideways.rules.sideways import Sideways
from sideways.studies.claims.claim import OURS, ArmResults, Claim, Finding, Lab, recipe
from sideways.studies.claims.compensation import Compensated
from sideways.studies.claims.figures import Curve, draw_lines, panels, save
from sideways.studies.claims.sign_law import Prediction, predictions
from sideways.studies.claims.verdict import Check, Verdict, counted, judged, spread
from sideways.training.build import build_network, build_task, make_rule
from sideways.training.checkpoint import listed, load_trained
from sideways.training.config import Config
from sideways.training.log import ShowProgress
from sideways.training.metrics import mean_and_spread
from sideways.training.run import session
from sideways.training.several import run_calls

FAINT = 0.1  # a smaller |cosine| of a single seed has no clear sign
TICKS = 18  # of a clip
Cosines = tuple[dict[str, float], dict[str, float]]  # by unit: of the mean gradients, and of single batches


@dataclass(frozen=True)
class Case:
    """A skip network, a motion and the merging unit."""

    skip: str
    speed: float = 1.0  # pixels per frame
    merge: str = "conv4"
    middle: int = 2  # units between conv1 and the merging unit
    recipe: str = "waves-skip"

    @property
    def name(self) -> str:
        """The name in the table."""
        deeper = ", a unit deeper" if self.middle > 2 else ""
        video = "" if self.recipe == "waves-skip" else " over video"
        return f"{self.skip}{deeper}, {self.speed:g} px{video}"

    def config(self, **changes: Any) -> Config:
        """The config of its run."""
        model = {"skip": [self.skip], "middle": self.middle}
        return recipe(self.recipe, **changes, task_options={"speed": self.speed}, model_options=model)


WAVES = [Case(edge, speed) for edge in ("conv1>conv4", "frame>conv4") for speed in (1.0, 0.5, 2.0)] + [
    Case("conv2>conv4"),
    Case("conv1>conv5", 1.0, "conv5", 3),
    Case("frame>conv5", 1.0, "conv5", 3),
    Case("frame>conv5", 2.0, "conv5", 3),
]
CASES = {case.name: case for case in [*WAVES, Case("conv1>conv4", 2.0, recipe="pan-skip")]}
FIRST = next(iter(CASES))


@dataclass(frozen=True)
class Measured:
    """The cosines of a unit below the merge in one of the cases, one for each seed, and their prediction."""

    prediction: Prediction
    means: list[float]  # cosines of the gradients averaged over batches
    single: list[float]  # means of the cosines of single batches
    compensated: list[float]  # as `means`, with the displacement of each hop undone

    @property
    def mean(self) -> float:
        """The mean over seeds."""
        return mean_and_spread(self.means)[0]

    @property
    def clear(self) -> bool:
        """True if the mean is more than two standard errors over seeds from 0; for a single seed, more than FAINT."""
        mean, deviation = mean_and_spread(self.means)
        return abs(mean) > (2 * deviation / len(self.means) ** 0.5 if len(self.means) > 1 else FAINT)

    @property
    def negative(self) -> bool:
        """True if the mean is clearly below 0."""
        return self.clear and self.mean < 0

    @property
    def returned(self) -> bool:
        """True if the mean is above 0 with the displacement undone."""
        return mean_and_spread(self.compensated)[0] > 0

    @property
    def as_predicted(self) -> bool:
        """True if the mean has the predicted sign."""
        return (self.prediction.sign or 0) * self.mean > 0


def aligned(lab: Lab) -> Finding:
    """Train skip networks; compare the signs of their cosines with the predicted ones; undo the displacement."""
    clips, batches, seeds = lab.pick(60, 250, 250), lab.pick(24, 24, 96), lab.seeds_of(1, 3, 5)
    third = clips // 3
    often = {"checkpoint_every": TICKS * third, "keep_checkpoints": 5, "schedule": {"ticks": TICKS * clips}}
    # All but the first, whose training is drawn, end at the snapshot, as a third of a run of all clips.
    lengths = {name: clips if name == FIRST else third for name in CASES}
    runs = lab.train({name: case.config(clips=lengths[name], **often) for name, case in CASES.items()}, seeds)
    fresh = range(clips, clips + batches)  # training clips that no run has seen
    measured = measured_cosines(lab, runs, fresh)
    figure, axes = panels(4)
    if runs[FIRST].finished:
        _draw_training(axes[:2], lab, runs[FIRST].directories[0], fresh)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=6, frameon=False)
    _draw_signs(axes[2], measured)
    _draw_compensation(axes[3], measured)
    right, positive, negative, signs = counts(measured.values())
    negative_ones, returned = turned(measured.values())
    noise = [single - mean for m in measured.values() for single, mean in zip(m.single, m.means, strict=True)]
    return Finding(
        verdict(list(measured.values())),
        f"below the merge {sum(m.mean > 0 for m in measured.values())} of {len(measured)} cosines are positive; the "
        f"displacement predicts {right} of {signs} signs; with it undone, {returned} of {negative_ones} negative ones "
        "are positive",
        f"vgg5-skip on waves and on a pan over real video, {counted(seeds)}; gradients of {batches} fresh training "
        f"batches after {third} of {clips} clips",
        [_row(case, unit, cosines) for (case, unit), cosines in measured.items()],
        "Skips, speeds and depth are listed in the table. frame>conv5, and frame>conv4 at 2 px, were chosen for the "
        "signs that are predicted for them, before they were measured. The snapshot was chosen beforehand too. "
        "|R ratio| < 0.2 predicts nothing (open: the unit's paths disagree). A sign is clear if the cosine is two "
        f"standard errors from 0; with a single seed, if it exceeds {FAINT}.",
        [save(figure, lab.directory / "aligned.png")],
        "The displacement of a path is Δ + 2d, see `sideways/studies/claims/sign_law.py`. Among the counted "
        f"signs {positive} are positive and {negative} negative. Both gradients of a single batch share the noise of "
        "this batch, which averages out in the mean gradients: here the cosines of single batches are higher than the "
        "cosines of the means by "
        f"{mean_and_spread(noise)[0] if noise else 0.0:.2f} on average.",
    )


def measured_cosines(lab: Lab, runs: Mapping[str, ArmResults], clips: range) -> dict[tuple[str, str], Measured]:
    """Measure every unit below the merge, a third of the way through each run: (case, unit) → cosines.

    The snapshot was chosen before any result was seen.
    """
    names = [(name, directory) for name in CASES for directory in runs[name].directories]
    calls = [partial(cosines_of_run, directory, CASES[name], clips) for name, directory in names]
    measured: dict[tuple[str, str], Measured] = {}
    outcomes = run_calls(calls, len(calls), "run", lab.processes, "aligned, cosines")
    for (name, _), of_run in zip(names, outcomes, strict=True):
        for unit, (prediction, mean, single, compensated) in of_run.items():
            cosines = measured.setdefault((name, unit), Measured(prediction, [], [], []))
            cosines.means.append(mean)
            cosines.single.append(single)
            cosines.compensated.append(compensated)
    return measured


def cosines_of_run(
    directory: Path, case: Case, clips: range, show: ShowProgress
) -> dict[str, tuple[Prediction, float, float, float]]:
    """Unit → (prediction, cosine of the means, of single batches, of the means with the displacement undone)."""
    trained = load_trained(listed(directory)[0])
    (means, single), (compensated, _) = measure(trained.config, trained.network, clips, (Sideways, Compensated))
    found = predictions(trained.network, case.merge, case.speed if case in WAVES else None)
    show(1, case.name)
    return {unit: (one, means[unit], single[unit], compensated[unit]) for unit, one in found.items()}


def _draw_training(axes: Sequence[Any], lab: Lab, directory: Path, clips: range) -> None:
    """Draw the cosines over the training of one run: of the mean gradients, and of single batches."""
    checkpoints = listed(directory)
    trained_clips = [0, *(int(path.name[-8:]) // TICKS for path in checkpoints)]
    calls = [partial(cosines_untrained, checkpoints[0], clips)]
    calls += [partial(cosines_of_checkpoint, path, clips) for path in checkpoints]
    measured = run_calls(calls, len(calls), "network", lab.processes, "aligned, over training")
    titles = (f"Mean gradients of {len(clips)} batches", "Each batch alone")
    for axis, part, words in zip(axes, (0, 1), titles, strict=True):
        lines = [Curve(unit, trained_clips, [pair[part][unit] for pair in measured]) for unit in measured[0][0]]
        title = f"{words}\n{FIRST} per frame, {directory.name.replace('-', ' ')}"
        draw_lines(axis, lines, "training clips (batches)", "cosine to the exact gradient", title, ylim=(-1.05, 1.05))
        axis.axhline(0, color="grey", linewidth=0.8)
        axis.get_legend().remove()


def cosines_of_checkpoint(path: Path, clips: range, show: ShowProgress) -> Cosines:
    """The cosines of the pseudo-gradients of a checkpoint."""
    trained = load_trained(path)
    (cosines,) = measure(trained.config, trained.network, clips)
    show(1, path.name)
    return cosines


def cosines_untrained(path: Path, clips: range, show: ShowProgress) -> Cosines:
    """The cosines of the network from which the run of a checkpoint began."""
    config = load_trained(path).config
    task = build_task(config)
    (cosines,) = measure(config, build_network(config, task.frame_shape, len(task.classes)), clips)
    show(1, "before training")
    return cosines


def measure(
    config: Config, network: Network, clips: range, kinds: Sequence[type[Sideways]] = (Sideways,)
) -> list[Cosines]:
    """Call `mean_cosines_of` on training batches with these numbers. kinds: the rules that make the gradients."""
    with session(config):
        task = build_task(config)
        rules = [make_rule(config, network, rules={"sideways": kind}) for kind in kinds]
        batches = (task.clip("train", number, config.batch) for number in clips)
        return mean_cosines_of(rules, ((batch.frames, batch.targets) for batch in batches))


def counts(measured: Iterable[Measured]) -> tuple[int, int, int, int]:
    """Count the clear cosines whose sign is predicted: (with the predicted sign, positive, negative, all)."""
    clear_ones = [cosines for cosines in measured if cosines.prediction.sign and cosines.clear]
    right = sum(cosines.as_predicted for cosines in clear_ones)
    positive = sum(cosines.mean > 0 for cosines in clear_ones)
    return right, positive, len(clear_ones) - positive, len(clear_ones)


def turned(measured: Iterable[Measured]) -> tuple[int, int]:
    """Count the cosines that are clearly negative, and those of them that compensation makes positive."""
    negative = [cosines for cosines in measured if cosines.negative]
    return len(negative), sum(cosines.returned for cosines in negative)


def verdict(measured: Sequence[Measured]) -> Verdict:
    """Check that all mean cosines below the merge are positive; that nine in ten signs are as predicted; and that nine
    in ten negative ones are positive with the displacement undone."""
    right, positive, negative, signs = counts(measured)
    above = sum(cosines.mean > 0 for cosines in measured)
    negative_ones, returned = turned(measured)
    lowest = min((cosines.mean for cosines in measured), default=float("nan"))
    return judged(
        Check(
            bool(measured) and above == len(measured),
            "the mean pseudo-gradient of every unit below the merge has a positive cosine to the exact one",
            f"{above} of {len(measured)}, lowest {lowest:+.2f}",
        ),
        Check(
            signs > 0 and right >= 0.9 * signs,
            "the displacement predicts the right sign in at least nine of ten cases with a predicted and a clear sign",
            f"{right} of {signs}",
        ),
        Check(
            right > max(positive, negative),
            "it predicts more of these signs than a guess of one sign for all cases would",
            f"{right} against {max(positive, negative)}",
        ),
        Check(
            negative_ones > 0 and returned >= 0.9 * negative_ones,
            "with the displacement of each hop undone, at least nine in ten clearly negative cosines are positive",
            f"{returned} of {negative_ones}",
        ),
    )


def _row(case: str, unit: str, cosines: Measured) -> dict[str, str]:
    sign = cosines.prediction.sign
    return {
        "skip, speed": case,
        "unit": unit,
        "R ratio of each path": ", ".join(f"{ratio:+.2f}" for ratio in cosines.prediction.ratios),
        "predicted sign": {1: "+", -1: "-", 0: "nothing", None: "open"}[sign],
        "cosine of the means": spread(cosines.means, 2),
        "as predicted": _agreement(cosines),
        "mean cosine of single batches": spread(cosines.single, 2),
        "displacement undone": spread(cosines.compensated, 2),
    }


def _agreement(cosines: Measured) -> str:
    """Say if the sign is as predicted: `yes`, `no` or `not clear`; say nothing if no sign is predicted."""
    if not cosines.prediction.sign:
        return ""
    if not cosines.clear:
        return "not clear"
    return "yes" if cosines.as_predicted else "no"


def _draw_signs(axes: Any, measured: Mapping[tuple[str, str], Measured]) -> None:
    """Draw the cosines against the ratio of R that predicts them, where all paths predict one sign."""
    clear = [cosines for cosines in measured.values() if cosines.prediction.sign]
    ratios = [float(numpy.mean(cosines.prediction.ratios)) for cosines in clear]
    _draw_quadrants(axes, ratios, [cosines.mean for cosines in clear], "predicted: ratio of R", "cosine of the means")
    axes.set_title("Every unit with a predicted sign")


def _draw_compensation(axes: Any, measured: Mapping[tuple[str, str], Measured]) -> None:
    """Draw the cosines with the displacement undone against those without."""
    undone = [mean_and_spread(cosines.compensated)[0] for cosines in measured.values()]
    plain = [cosines.mean for cosines in measured.values()]
    _draw_quadrants(axes, plain, undone, "cosine of the means", "the same, displacement undone")
    axes.set_title("Every unit below the merge")


def _draw_quadrants(axes: Any, x: Sequence[float], y: Sequence[float], x_label: str, y_label: str) -> None:
    axes.scatter(x, y, alpha=0.7)
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.axvline(0, color="grey", linewidth=0.8)
    axes.set(xlabel=x_label, ylabel=y_label, ylim=(-1.05, 1.05))


CLAIM = Claim("Pseudo-gradients point in the direction of the exact gradient.", OURS, aligned)
