"""aligned: do pseudo-gradients point where the exact gradient does? And where not, does the displacement tell why?

A unit that is d ticks below the merge pulls its gradient through an input that is 2d frames newer than the one the
gradient belongs to. Let a branch of the merge bring a moment that is Δ frames newer than the other's: the exact
gradient compares moments Δ apart, the pseudo-gradient moments Δ + 2d apart. Direction is an odd function of the
displacement: for waves of speed v and wavelengths λ, opponent motion energy goes as

    R(x) = E_λ[J₁(2πx/λ)]        x = vΔ pixels

so down this branch the cosine should have the sign of R(v(Δ + 2d)) / R(vΔ), with nothing to be fitted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

from sideways.data.synthetic import Waves
from sideways.network import FRAME, Network
from sideways.rules.diagnostics import mean_cosines
from sideways.studies.claims.claim import OURS, Claim, Finding, Lab, recipe
from sideways.studies.claims.figures import Curve, draw_lines, panels, save
from sideways.studies.claims.verdict import Check, Verdict, counted, judged, spread
from sideways.training.build import build_network, build_task, make_rule
from sideways.training.checkpoint import listed, load_trained
from sideways.training.config import Config
from sideways.training.metrics import mean_and_spread
from sideways.training.run import session

CLEAR = 0.2  # |R ratio| below this predicts nothing
FAINT = 0.1  # a cosine of a single seed below this has no clear sign
CASES = {  # what the table calls it → (speed, options of vgg5-skip, the merging unit)
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
    """Of a unit's cosine: R's ratio for each path to the merge."""

    ratios: tuple[float, ...]

    @property
    def sign(self) -> int | None:
        """+1 or -1 where all paths clearly say so, 0 where all say nothing, None where they disagree."""
        signs = {0 if abs(ratio) < CLEAR else int(numpy.sign(ratio)) for ratio in self.ratios}
        return signs.pop() if len(signs) == 1 else None


@dataclass(frozen=True)
class Measured:
    """A unit below the merge, in one of the cases: what is predicted, and its cosines, one for each seed."""

    prediction: Prediction
    means: list[float]  # of the gradients averaged over batches
    single: list[float]  # the mean of those of single batches

    @property
    def mean(self) -> float:
        return mean_and_spread(self.means)[0]

    @property
    def clear(self) -> bool:
        """Whether the sign is: the mean over seeds is more than two standard errors from 0; a single one, FAINT."""
        mean, deviation = mean_and_spread(self.means)
        return abs(mean) > (2 * deviation / len(self.means) ** 0.5 if len(self.means) > 1 else FAINT)


def aligned(lab: Lab) -> Finding:
    clips, batches, seeds = lab.pick(60, 250, 250), lab.pick(24, 24, 96), lab.seeds_of(1, 3, 5)
    arms = {}
    for case, (speed, options, _) in CASES.items():
        changes = {"clips": clips, "checkpoint_every": 18 * clips // 3, "keep_checkpoints": 5}
        arms[case] = recipe("waves-skip", **changes, task_options={"speed": speed}, model_options=options)
    runs = lab.train(arms, seeds)
    found: dict[tuple[str, str], Measured] = {}
    for case, (speed, _, merge) in CASES.items():
        for directory in runs[case].directories:
            held = load_trained(listed(directory)[0])  # a third of the way: settled before any result was seen
            means, single = measure(held.config, held.network, batches)
            for unit, prediction in predictions(held.network, merge, speed).items():
                mine = found.setdefault((case, unit), Measured(prediction, [], []))
                mine.means.append(means[unit])
                mine.single.append(single[unit])
    figure, axes = panels(2)
    if runs[FIRST].finished:
        _draw_training(axes, runs[FIRST].directories[0], batches)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=6, frameon=False)
    right, positive, negative, settled = counts(found.values())
    drawn_up = [one - mean for mine in found.values() for one, mean in zip(mine.single, mine.means, strict=True)]
    return Finding(
        verdict(list(found.values())),
        f"below the merge {sum(mine.mean > 0 for mine in found.values())} of {len(found)} cosines are positive; the "
        f"displacement predicts {right} of {settled} signs",
        f"vgg5-skip on waves, {counted(seeds)}; gradients of {batches} fresh training batches after {clips // 3} of "
        f"{clips} clips",
        [_row(case, unit, mine) for (case, unit), mine in found.items()],
        "Skips, speeds and depth as in the table; frame>conv5, and frame>conv4 at 2 px, were chosen for the signs that "
        "are predicted of them, before they were measured. The snapshot was chosen beforehand too, and |R ratio| < 0.2 "
        f"predicts nothing (open: the unit's paths disagree). A sign is clear where it is two standard errors from 0, "
        f"with a single seed {FAINT}.",
        [save(figure, lab.directory / "aligned.png")],
        "The displacement of a path: Δ + 2d, see `sideways/studies/claims/aligned.py`. Of the signs counted, "
        f"{positive} are positive and {negative} negative. What a batch has by chance is in both its gradients and "
        "cancels in the mean: here the cosines of single batches are higher than those of the means by "
        f"{mean_and_spread(drawn_up)[0] if drawn_up else 0.0:.2f} on average.",
    )


def _draw_training(axes: Sequence[Any], directory: Path, batches: int) -> None:
    """Cosines over the training of one run: of the mean gradients, and of single batches."""
    held = {int(path.name[-8:]) // 18: load_trained(path) for path in listed(directory)}
    config = next(iter(held.values())).config
    networks = {0: _fresh(config)} | {clip: one.network for clip, one in held.items()}
    both = [measure(config, network, batches) for network in networks.values()]
    for axis, which, words in ((axes[0], 0, f"Mean gradients of {batches} batches"), (axes[1], 1, "Each batch alone")):
        lines = [Curve(unit, list(networks), [pair[which][unit] for pair in both]) for unit in both[0][0]]
        title = f"{words}\n{FIRST} per frame, seed {config.seed}"
        draw_lines(axis, lines, "training clips (batches)", "cosine to the exact gradient", title, ylim=(-1.05, 1.05))
        axis.axhline(0, color="grey", linewidth=0.8)
        axis.get_legend().remove()


def measure(config: Config, network: Network, batches: int) -> tuple[dict[str, float], dict[str, float]]:
    """`mean_cosines` on training clips that the run has not seen."""
    with session(config):
        task, rule = build_task(config), make_rule(config, network)
        numbers = range(config.clips, config.clips + batches)
        clips = (task.clip("train", number, config.batch) for number in numbers)
        return mean_cosines(rule, ((clip.frames, clip.targets) for clip in clips))


def predictions(network: Network, merge: str, speed: float) -> dict[str, Prediction]:
    """Of every unit below the merging one."""
    lags = {FRAME: -1}  # ticks from a frame's arrival to the activation that shows it
    for name, unit in network.units.items():
        lags[name] = 1 + lags[unit.inputs[0]]
        if name == merge:
            break
    branches = network.units[merge].inputs
    found: dict[str, list[float]] = {}
    for branch in branches:
        (other,) = (name for name in branches if name != branch)
        newer = lags[other] - lags[branch]
        for below, distance in _below(network, branch, 1):
            ratio = opponent(speed * (newer + 2 * distance)) / opponent(speed * newer)
            found.setdefault(below, []).append(ratio)
    return {name: Prediction(tuple(found[name])) for name in network.units if name in found}


def _below(network: Network, unit: str, distance: int) -> Iterator[tuple[str, int]]:
    """A unit and all below it, with the ticks from each to the merge."""
    if unit == FRAME:
        return
    yield unit, distance
    for j in network.units[unit].inputs:
        yield from _below(network, j, distance + 1)


def opponent(pixels: float) -> float:
    """R(x) = E_λ[J₁(2πx/λ)]: J₁ as the mean of cos a · sin(z cos a) over angles a, λ as `Waves` draws it."""
    shortest, longest = Waves.wavelengths
    wavelengths = numpy.linspace(shortest, longest, 200)[:, None]
    cosines = numpy.cos(numpy.linspace(0, 2 * numpy.pi, 400, endpoint=False))
    return float((cosines * numpy.sin(2 * numpy.pi * pixels / wavelengths * cosines)).mean())


def counts(found: Iterable[Measured]) -> tuple[int, int, int, int]:
    """Of the cosines whose sign is predicted, and clear: as predicted, positive, negative, all."""
    signs = [(mine.prediction.sign, mine.mean) for mine in found if mine.prediction.sign and mine.clear]
    positive = sum(value > 0 for _, value in signs)
    return sum(sign * value > 0 for sign, value in signs), positive, len(signs) - positive, len(signs)


def verdict(found: Sequence[Measured]) -> Verdict:
    """Aligned: all mean cosines below the merge are positive. Explained: nine in ten signs are as predicted."""
    right, positive, negative, settled = counts(found)
    above = sum(mine.mean > 0 for mine in found)
    return judged(
        Check(
            bool(found) and above == len(found),
            "the mean pseudo-gradient of every unit below the merge has a positive cosine to the exact one",
            f"{above} of {len(found)}, lowest {min((mine.mean for mine in found), default=float('nan')):+.2f}",
        ),
        Check(
            settled > 0 and right >= 0.9 * settled,
            "the displacement predicts the sign in at least nine of ten cases where it predicts one that is clear",
            f"{right} of {settled}",
        ),
        Check(
            right > max(positive, negative),
            "and in more cases than one sign for all would",
            f"{right} against {max(positive, negative)}",
        ),
    )


def _row(case: str, unit: str, mine: Measured) -> dict[str, str]:
    words = {1: "+", -1: "-", 0: "nothing", None: "open"}
    sign = mine.prediction.sign
    return {
        "skip, speed": case,
        "unit": unit,
        "R ratio of each path": ", ".join(f"{ratio:+.2f}" for ratio in mine.prediction.ratios),
        "predicted sign": words[sign],
        "cosine of the means": spread(mine.means, 2),
        "as predicted": "" if not sign else "not clear" if not mine.clear else "yes" if sign * mine.mean > 0 else "no",
        "mean cosine of single batches": spread(mine.single, 2),
    }


def _fresh(config: Config) -> Network:
    task = build_task(config)
    return build_network(config, task.frame_shape, len(task.classes))


CLAIM = Claim("Pseudo-gradients point the way of the exact gradient.", OURS, aligned)
