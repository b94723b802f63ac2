"""aligned: do pseudo-gradients point where the exact gradient points? If not, does the displacement explain the sign?

A unit that is d ticks below the merge pulls its gradient through an input that is 2d frames newer than the input that
the gradient belongs to. Suppose that one branch of the merge brings a moment Δ frames newer than the other branch. Then
the exact gradient compares moments Δ apart, the pseudo-gradient moments Δ + 2d apart. Direction is an odd function of
the displacement: for waves of speed v and wavelengths λ, opponent motion energy is proportional to

    R(x) = E_λ[J₁(2πx/λ)]        x = vΔ pixels

Down this branch the cosine should therefore have the sign of R(v(Δ + 2d)) / R(vΔ). Nothing is fitted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

from sideways.data.synthetic import Waves
from sideways.network import FRAME, Network
from sideways.rules.diagnostics import mean_cosines
from sideways.studies.claims.claim import OURS, ArmResults, Claim, Finding, Lab, recipe
from sideways.studies.claims.figures import Curve, draw_lines, panels, save
from sideways.studies.claims.verdict import Check, Verdict, counted, judged, spread
from sideways.training.build import build_network, build_task, make_rule
from sideways.training.checkpoint import listed, load_trained
from sideways.training.config import Config
from sideways.training.metrics import mean_and_spread
from sideways.training.run import session

CLEAR = 0.2  # a smaller |ratio of R| predicts nothing
FAINT = 0.1  # a smaller |cosine| of a single seed has no clear sign
TICKS = 18  # of a clip
CASES = {  # name in the table → (speed, options of vgg5-skip, the merging unit)
    "conv1>conv4, 1 px": (1.0, {"skip": ["conv1>conv4"]}, "conv4"),
    "conv1>conv4, 0.5 px": (0.5, {"skip": ["conv1>conv4"]}, "conv4"),
    "conv1>conv4, 2 px": (2.0, {"skip": ["conv1>conv4"]}, "conv4"),
    "frame>conv4, 1 px": (1.0, {"skip": ["frame>conv4"]}, "conv4"),
    "frame>conv4, 0.5 px": (0.5, {"skip": ["frame>conv4"]}, "conv4"),
    "frame>conv4, 2 px": (2.0, {"skip": ["frame>conv4"]}, "conv4"),
    "conv2>conv4, 1 px": (1.0, {"skip": ["conv2>conv4"]}, "conv4"),
    "conv1>conv5, a unit deeper, 1 px": (1.0, {"skip": ["conv1>conv5"], "middle": 3}, "conv5"),
    "frame>conv5, a unit deeper, 1 px": (1.0, {"skip": ["frame>conv5"], "middle": 3}, "conv5"),
    "frame>conv5, a unit deeper, 2 px": (2.0, {"skip": ["frame>conv5"], "middle": 3}, "conv5"),
}
FIRST = next(iter(CASES))


@dataclass(frozen=True)
class Prediction:
    """The prediction of a unit's cosine: the ratio of R for each path from the unit to the merge."""

    ratios: tuple[float, ...]

    @property
    def sign(self) -> int | None:
        """The sign: +1 or -1 if all paths clearly agree, 0 if no path predicts a sign, None if the paths disagree."""
        signs = {0 if abs(ratio) < CLEAR else int(numpy.sign(ratio)) for ratio in self.ratios}
        return signs.pop() if len(signs) == 1 else None


@dataclass(frozen=True)
class Measured:
    """The cosines of a unit below the merge in one of the cases, one for each seed, and their prediction."""

    prediction: Prediction
    means: list[float]  # cosines of the gradients averaged over batches
    single: list[float]  # means of the cosines of single batches

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
    def as_predicted(self) -> bool:
        """True if the mean has the predicted sign."""
        return (self.prediction.sign or 0) * self.mean > 0


def aligned(lab: Lab) -> Finding:
    """Train skip networks, and compare the signs of their cosines with those that the displacement predicts."""
    clips, batches, seeds = lab.pick(60, 250, 250), lab.pick(24, 24, 96), lab.seeds_of(1, 3, 5)
    arms = {}
    for case, (speed, options, _) in CASES.items():
        changes = {"clips": clips, "checkpoint_every": TICKS * clips // 3, "keep_checkpoints": 5}
        arms[case] = recipe("waves-skip", **changes, task_options={"speed": speed}, model_options=options)
    runs = lab.train(arms, seeds)
    measured = measured_cosines(runs, batches)
    figure, axes = panels(2)
    if runs[FIRST].finished:
        _draw_training(axes, runs[FIRST].directories[0], batches)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=6, frameon=False)
    right, positive, negative, signs = counts(measured.values())
    noise = [single - mean for m in measured.values() for single, mean in zip(m.single, m.means, strict=True)]
    return Finding(
        verdict(list(measured.values())),
        f"below the merge {sum(m.mean > 0 for m in measured.values())} of {len(measured)} cosines are positive; the "
        f"displacement predicts {right} of {signs} signs",
        f"vgg5-skip on waves, {counted(seeds)}; gradients of {batches} fresh training batches after {clips // 3} of "
        f"{clips} clips",
        [_row(case, unit, cosines) for (case, unit), cosines in measured.items()],
        "Skips, speeds and depth are listed in the table. frame>conv5, and frame>conv4 at 2 px, were chosen for the "
        "signs that are predicted for them, before they were measured. The snapshot was chosen beforehand too. "
        "|R ratio| < 0.2 predicts nothing (open: the unit's paths disagree). A sign is clear if the cosine is two "
        f"standard errors from 0; with a single seed, if it exceeds {FAINT}.",
        [save(figure, lab.directory / "aligned.png")],
        "The displacement of a path is Δ + 2d, see `sideways/studies/claims/aligned.py`. Among the counted "
        f"signs {positive} are positive and {negative} negative. Both gradients of a single batch share the noise of "
        "this batch, which averages out in the mean gradients: here the cosines of single batches are higher than the "
        "cosines of the means by "
        f"{mean_and_spread(noise)[0] if noise else 0.0:.2f} on average.",
    )


def measured_cosines(runs: Mapping[str, ArmResults], batches: int) -> dict[tuple[str, str], Measured]:
    """Measure every unit below the merge, a third of the way through each run: (case, unit) → cosines.

    The snapshot was chosen before any result was seen.
    """
    measured: dict[tuple[str, str], Measured] = {}
    for case, (speed, _, merge) in CASES.items():
        for directory in runs[case].directories:
            trained = load_trained(listed(directory)[0])
            means, single = measure(trained.config, trained.network, batches)
            for unit, prediction in predictions(trained.network, merge, speed).items():
                cosines = measured.setdefault((case, unit), Measured(prediction, [], []))
                cosines.means.append(means[unit])
                cosines.single.append(single[unit])
    return measured


def _draw_training(axes: Sequence[Any], directory: Path, batches: int) -> None:
    """Draw the cosines over the training of one run: of the mean gradients, and of single batches."""
    trained = {int(path.name[-8:]) // TICKS: load_trained(path) for path in listed(directory)}
    config = next(iter(trained.values())).config
    networks = {0: _fresh(config)} | {clip: one.network for clip, one in trained.items()}
    measured = [measure(config, network, batches) for network in networks.values()]
    titles = (f"Mean gradients of {batches} batches", "Each batch alone")
    for axis, part, words in zip(axes, (0, 1), titles, strict=True):
        lines = [Curve(unit, list(networks), [pair[part][unit] for pair in measured]) for unit in measured[0][0]]
        title = f"{words}\n{FIRST} per frame, seed {config.seed}"
        draw_lines(axis, lines, "training clips (batches)", "cosine to the exact gradient", title, ylim=(-1.05, 1.05))
        axis.axhline(0, color="grey", linewidth=0.8)
        axis.get_legend().remove()


def measure(config: Config, network: Network, batches: int) -> tuple[dict[str, float], dict[str, float]]:
    """Call `mean_cosines` on training clips that the run has not seen."""
    with session(config):
        task, rule = build_task(config), make_rule(config, network)
        numbers = range(config.clips, config.clips + batches)
        clips = (task.clip("train", number, config.batch) for number in numbers)
        return mean_cosines(rule, ((clip.frames, clip.targets) for clip in clips))


def predictions(network: Network, merge: str, speed: float) -> dict[str, Prediction]:
    """The prediction for every unit below the merging one; speed in pixels per frame."""
    lags = {FRAME: -1}  # ticks from a frame's arrival to the activation that shows it
    for name, unit in network.units.items():
        lags[name] = 1 + lags[unit.inputs[0]]
        if name == merge:
            break
    branches = network.units[merge].inputs
    ratios: dict[str, list[float]] = {}
    for branch in branches:
        (other,) = (name for name in branches if name != branch)
        newer = lags[other] - lags[branch]
        for below, distance in _below(network, branch, 1):
            ratio = opponent(speed * (newer + 2 * distance)) / opponent(speed * newer)
            ratios.setdefault(below, []).append(ratio)
    return {name: Prediction(tuple(ratios[name])) for name in network.units if name in ratios}


def _below(network: Network, unit: str, distance: int) -> Iterator[tuple[str, int]]:
    """Yield a unit and all units below it, each with its distance to the merge in ticks."""
    if unit == FRAME:
        return
    yield unit, distance
    for j in network.units[unit].inputs:
        yield from _below(network, j, distance + 1)


def opponent(pixels: float) -> float:
    """R(x) = E_λ[J₁(2πx/λ)]: J₁(z) is the mean of cos a · sin(z cos a) over angles a; `Waves` draws λ."""
    shortest, longest = Waves.wavelengths
    wavelengths = numpy.linspace(shortest, longest, 200)[:, None]
    cosines = numpy.cos(numpy.linspace(0, 2 * numpy.pi, 400, endpoint=False))
    return float((cosines * numpy.sin(2 * numpy.pi * pixels / wavelengths * cosines)).mean())


def counts(measured: Iterable[Measured]) -> tuple[int, int, int, int]:
    """Count the clear cosines whose sign is predicted: (with the predicted sign, positive, negative, all)."""
    clear_ones = [cosines for cosines in measured if cosines.prediction.sign and cosines.clear]
    right = sum(cosines.as_predicted for cosines in clear_ones)
    positive = sum(cosines.mean > 0 for cosines in clear_ones)
    return right, positive, len(clear_ones) - positive, len(clear_ones)


def verdict(measured: Sequence[Measured]) -> Verdict:
    """Check that all mean cosines below the merge are positive; and that nine in ten signs are as predicted."""
    right, positive, negative, signs = counts(measured)
    above = sum(cosines.mean > 0 for cosines in measured)
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
    }


def _agreement(cosines: Measured) -> str:
    """Say if the sign is as predicted: `yes`, `no` or `not clear`; say nothing if no sign is predicted."""
    if not cosines.prediction.sign:
        return ""
    if not cosines.clear:
        return "not clear"
    return "yes" if cosines.as_predicted else "no"


def _fresh(config: Config) -> Network:
    """The network as it was before training."""
    task = build_task(config)
    return build_network(config, task.frame_shape, len(task.classes))


CLAIM = Claim("Pseudo-gradients point in the direction of the exact gradient.", OURS, aligned)
