"""smooth: how does Sideways, which relies on similar neighbouring frames, fare at strides 1 to 16 and on shuffled ones?

The shuffled frames are frames of stride 16, since the moments of a slower stream are near each other in any order.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy

from sideways.errors import DivergedError
from sideways.studies.claims.claim import CVPR2020, ArmResults, Claim, Finding, Lab, Rows, recipe
from sideways.studies.claims.figures import Curve, draw_lines, panels, save
from sideways.studies.claims.verdict import Check, Verdict, counted, difference, judged, spread
from sideways.training.config import Config
from sideways.training.report.plots import read_metrics

STRIDES = (1, 2, 4, 8, 16)
SPEED = 0.5  # pixels per frame at stride 1
SHUFFLED = "shuffled"
SHOWN = {"1": "stride 1", "16": "16", SHUFFLED: "shuffled"}  # case → words in the claim's number
ARMS = {"Sideways": "bands-chain", "backprop": "bands-backprop"}  # arm → recipe


def smooth(lab: Lab) -> Finding:
    """Train the chain by Sideways and by backpropagation at each stride; compare losses, accuracies and cosines."""
    seeds, clips = lab.seeds_of(1, 3, 5), lab.pick(40, 250, 250)
    cases = [*map(str, STRIDES), SHUFFLED]
    arms = {f"{arm} {case}": _config(arm, case, clips) for arm in ARMS for case in cases}
    runs = lab.train(arms, seeds)
    accuracy = {arm: {case: runs[f"{arm} {case}"].accuracies for case in cases} for arm in ARMS}
    loss = {arm: {case: runs[f"{arm} {case}"].values("loss") for case in cases} for arm in ARMS}
    cosine = {case: cosines(runs[f"Sideways {case}"]) for case in cases}
    units = list(dict.fromkeys(unit for case in cases for unit in cosine[case]))
    if not units:
        raise DivergedError("every run of Sideways diverged")
    rows: Rows = [
        {
            "stride": case,
            "px per frame": "random" if case == SHUFFLED else f"{SPEED * int(case):g}",
            **{f"accuracy, {arm}": spread(accuracy[arm][case]) for arm in ARMS},
            **{f"loss, {arm}": spread(loss[arm][case]) for arm in ARMS},
            **{f"cosine, {unit}": f"{numpy.mean(values):+.2f}" for unit, values in cosine[case].items()},
        }
        for case in cases
    ]
    bottom = {case: float(numpy.mean(values[units[0]])) for case, values in cosine.items() if values}
    ours, exact = (loss[arm] for arm in ARMS)
    near, exact_near = (accuracy[arm][cases[0]] for arm in ARMS)
    title = f"Wavelength of waves, {clips} clips, {counted(seeds)}"
    return Finding(
        verdict(ours, exact, near, exact_near, bottom),
        "held-out loss, Sideways (backprop): "
        + ", ".join(f"{words} {spread(ours[c])} ({spread(exact[c])})" for c, words in SHOWN.items()),
        f"vgg5 on the wavelength of waves, {clips} clips, {counted(seeds)}; cosines to exact bptt, of single batches",
        rows,
        "The settings of the recipes; a stride of s makes uniformly gliding waves glide s times as fast. Accuracies "
        "were compared before losses: accuracies are near 1 for both rules, and hide what the loss shows.",
        [_picture(lab, title, accuracy, loss, {unit: [cosine[c].get(unit, []) for c in cases] for unit in units})],
    )


def _config(arm: str, case: str, clips: int) -> Config:
    """The config of one arm at one stride, or on shuffled frames."""
    stride = STRIDES[-1] if case == SHUFFLED else int(case)
    options = {"speed": SPEED * stride} | ({"shuffled": True} if case == SHUFFLED else {})
    every = max(1, clips // 5) if arm == "Sideways" else 0
    return recipe(ARMS[arm], clips=clips, cosine_every=every, task_options=options)


def _picture(
    lab: Lab,
    title: str,
    accuracy: dict[str, dict[str, list[float]]],
    loss: dict[str, dict[str, list[float]]],
    cosine: dict[str, list[list[float]]],
) -> Path:
    """Draw accuracy, loss and each unit's cosine against the stride; shuffled frames stand apart at the right."""
    figure, axes = panels(3)
    x, stride = [*STRIDES, 2 * STRIDES[-1]], f"stride (× {SPEED} px per frame)"
    marks: dict[str, Any] = {"xscale": "log", "xticks": x}
    lines = [Curve(arm, x, list(values.values()), apart=True) for arm, values in accuracy.items()]
    draw_lines(axes[0], lines, stride, "held-out accuracy", title, **marks)
    lines = [Curve(arm, x, list(values.values()), apart=True) for arm, values in loss.items()]
    draw_lines(axes[1], lines, stride, "held-out loss (nats)", title, **marks)
    lines = [Curve(unit, x, values, apart=True) for unit, values in cosine.items()]
    title = "Pseudo-gradient against exact, mean over training"
    draw_lines(axes[2], lines, stride, "cosine, one batch", title, **marks, ylim=(-0.8, 1.05))
    for panel in axes:
        panel.minorticks_off()
        panel.set_xticks(x, [*map(str, STRIDES), SHUFFLED])
    return save(figure, lab.directory / "smooth.png")


def cosines(runs: ArmResults) -> dict[str, list[float]]:
    """The mean over training of the logged cosines: unit → a mean for each seed."""
    means: dict[str, list[float]] = {}
    for directory in runs.directories:
        lines = read_metrics(directory, "cosine")
        for unit in lines[0]["cosines"]:
            means.setdefault(unit, []).append(float(numpy.mean([line["cosines"][unit] for line in lines])))
    return means


def verdict(
    loss: dict[str, list[float]],
    exact_loss: dict[str, list[float]],
    smooth_accuracy: list[float],
    exact_smooth_accuracy: list[float],
    bottom: dict[str, float],
) -> Verdict:
    """Check that Sideways' loss, over backprop's, grows with the stride, and that Sideways learns at stride 1."""
    smoothest, fastest = (str(STRIDES[i]) for i in (0, -1))
    bottom_cosines = [bottom[str(stride)] for stride in STRIDES if str(stride) in bottom]
    shortfall = difference(exact_smooth_accuracy, smooth_accuracy)[0]
    return judged(
        grows(loss, exact_loss, SHUFFLED, "on shuffled frames of stride 16"),
        grows(loss, exact_loss, fastest, "at stride 16"),
        Check(
            shortfall <= 0.05,
            f"at stride {smoothest} Sideways' accuracy at most .05 below backprop's",
            f"{-shortfall:+.3f}",
        ),
        Check(
            len(bottom_cosines) > 1 and bottom_cosines[0] - bottom_cosines[-1] >= 0.2,
            "the bottom unit's cosine falls by .2 from stride 1 to 16",
            _listed(bottom_cosines),
        ),
    )


def grows(loss: dict[str, list[float]], exact: dict[str, list[float]], case: str, words: str) -> Check:
    """Check that loss / exact loss is larger than at stride 1: by a fifth, and by two standard errors over seeds."""
    smoothest = str(STRIDES[0])
    rule = (
        f"Sideways' held-out loss, in multiples of backprop's, is larger {words} than at stride {smoothest}, by a "
        "fifth and by two standard errors"
    )
    if not all(values[c] for values in (loss, exact) for c in (case, smoothest)):
        return Check(False, rule, "no run finished")
    rough, rough_error = _log_ratio(loss[case], exact[case])
    near, near_error = _log_ratio(loss[smoothest], exact[smoothest])
    gap, error = rough - near, (rough_error**2 + near_error**2) ** 0.5
    numbers = f"{numpy.exp(rough):.2f} against {numpy.exp(near):.2f} times; logarithms {gap:+.2f} ± {error:.2f} apart"
    return Check(bool(gap > max(numpy.log(1.2), 2 * error)), rule, numbers)


def _log_ratio(loss: list[float], exact_loss: list[float]) -> tuple[float, float]:
    """The logarithm of loss / exact loss, as a difference of means over seeds, and its standard error."""
    return difference(numpy.log(loss).tolist(), numpy.log(exact_loss).tolist())


def _listed(values: list[float]) -> str:
    return ", ".join(f"{value:+.2f}" for value in values)


CLAIM = Claim("Sideways works because neighbouring frames are alike; it needs a smooth stream.", CVPR2020, smooth)
