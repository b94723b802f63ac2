"""aligned: do pseudo-gradients point where the exact gradient does? And where not, does the displacement tell why?

A unit that is d ticks below the merge pulls its gradient through an input that is 2d frames newer than the one the
gradient belongs to. Let a branch of the merge bring a moment that is Δ frames newer than the other's: the exact
gradient compares moments Δ apart, the pseudo-gradient moments Δ + 2d apart. Direction is an odd function of the
displacement: for waves of speed v and wavelengths λ, opponent motion energy goes as

    R(x) = E_λ[J₁(2πx/λ)]        x = vΔ pixels

so down this branch the cosine should have the sign of R(v(Δ + 2d)) / R(vΔ), with nothing to be fitted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy

from sideways.checkpoint import listed, trained
from sideways.claims.claim import OURS, Bench, Claim, Finding, Rows, recipe
from sideways.claims.pictures import Line, draw_lines, panels, save
from sideways.claims.verdict import Check, Verdict, judged
from sideways.config import Config, build_network, build_task, make_rule
from sideways.cosine import mean_cosines
from sideways.data.synthetic import Waves
from sideways.network import FRAME, Network
from sideways.training import session

CLEAR = 0.2  # |R ratio| below this predicts nothing
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


def aligned(bench: Bench) -> Finding:
    clips, batches = bench.pick(60, 250, 250), bench.pick(24, 24, 96)
    arms = {}
    for case, (speed, options, _) in CASES.items():
        changes = {"clips": clips, "checkpoint_every": 18 * clips // 3, "keep_checkpoints": 5}
        arms[case] = recipe("waves-skip", **changes, task_options={"speed": speed}, model_options=options)
    seeds = bench.seeds_of(1, 3, 5)
    runs = bench.train(arms, seeds)
    rows: Rows = []
    over_training: dict[int, tuple[dict[str, float], dict[str, float]]] = {}
    signs: list[tuple[int, float]] = []
    below: list[float] = []
    drawn_up: list[float] = []
    for case, (speed, _, merge) in CASES.items():
        for directory in runs[case].directories:
            snapshots = {0: None} | {int(path.name[-8:]) // 18: path for path in listed(directory)}
            measured = list(snapshots)[1]  # a third of the way: settled before any result was seen
            for clip, path in snapshots.items() if case == FIRST else [(measured, snapshots[measured])]:
                config = arms[case]
                network = trained(path).network if path else _fresh(config)
                mean, single = measure(config, network, batches)
                if case == FIRST:
                    over_training[clip] = mean, single
                if clip == measured:
                    for unit, prediction in predictions(network, merge, speed).items():
                        rows.append(_row(case, unit, prediction, mean[unit], single[unit]))
                        below.append(mean[unit])
                        drawn_up.append(single[unit] - mean[unit])
                        if prediction.sign:
                            signs.append((prediction.sign, mean[unit]))
    figure, axes = panels(2)
    clips_ = list(over_training)
    for axis, which, words in ((axes[0], 0, f"Mean gradients of {batches} batches"), (axes[1], 1, "Each batch alone")):
        lines = [Line(u, clips_, [pair[which][u] for pair in over_training.values()]) for u in over_training[0][0]]
        title = f"{words}: {FIRST} per frame"
        draw_lines(axis, lines, "training clips (batches)", "cosine to the exact gradient", title, ylim=(-1.05, 1.05))
        axis.axhline(0, color="grey", linewidth=0.8)
    right = sum(sign * value > 0 for sign, value in signs)
    return Finding(
        verdict(below, signs),
        f"below the merge {sum(value > 0 for value in below)} of {len(below)} cosines are positive; the displacement "
        f"predicts the sign of {right} of {len(signs)}",
        f"vgg5-skip on waves, one seed; gradients of {batches} fresh training batches after {clips // 3} of "
        f"{clips} clips",
        rows,
        "Skips, speeds and depth as in the table; the snapshot was chosen beforehand, and |R ratio| < 0.2 predicts "
        "nothing (open: the unit's paths disagree).",
        [save(figure, bench.directory / "aligned.png")],
        "The displacement of a path: Δ + 2d, see `sideways/claims/aligned.py`. What a batch has by chance is in both "
        "its gradients and cancels in the mean: here the cosines of single batches are higher than those of the "
        f"means by {numpy.mean(drawn_up):.2f} on average.",
    )


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


def verdict(below: list[float], signs: list[tuple[int, float]]) -> Verdict:
    """Aligned: all mean cosines below the merge are positive. Explained: nine in ten signs as predicted."""
    right = sum(sign * value > 0 for sign, value in signs)
    return judged(
        Check(
            all(value > 0 for value in below),
            "the mean pseudo-gradient of every unit below the merge has a positive cosine to the exact one",
            f"{sum(value > 0 for value in below)} of {len(below)}, lowest {min(below):+.2f}",
        ),
        Check(
            right >= 0.9 * len(signs),
            "the displacement predicts the sign in at least nine of ten cases where it predicts one",
            f"{right} of {len(signs)}",
        ),
    )


def _row(case: str, unit: str, prediction: Prediction, mean: float, single: float) -> dict[str, str]:
    words = {1: "+", -1: "-", 0: "nothing", None: "open"}
    return {
        "skip, speed": case,
        "unit": unit,
        "R ratio of each path": ", ".join(f"{ratio:+.2f}" for ratio in prediction.ratios),
        "predicted sign": words[prediction.sign],
        "cosine of the means": f"{mean:+.2f}",
        "as predicted": "" if not prediction.sign else "yes" if prediction.sign * mean > 0 else "no",
        "mean cosine of single batches": f"{single:+.2f}",
    }


def _fresh(config: Config) -> Network:
    task = build_task(config)
    return build_network(config, task.frame_shape, len(task.classes))


CLAIM = Claim("Pseudo-gradients point the way of the exact gradient.", OURS, aligned)
