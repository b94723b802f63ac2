"""converges and regularises: Sideways, Delayed and backprop where one frame is enough, with much and little data."""

from __future__ import annotations

from pathlib import Path

from sideways.studies.claims.claim import CVPR2020, ArmResults, Claim, Finding, Lab, Rows, recipe
from sideways.studies.claims.figures import Curve, draw_lines, panels, save
from sideways.studies.claims.verdict import (
    Check,
    Verdict,
    clearly_above,
    counted,
    difference,
    difference_text,
    judged,
    spread,
)

SIDEWAYS, DELAYED, BACKPROP, NOISY = "Sideways", "Delayed", "backprop", "backprop + noise"
CONVERGES = {  # arm → recipe
    SIDEWAYS: "bands-chain",
    DELAYED: "bands-delayed",
    BACKPROP: "bands-backprop",
}
REGULARISES = {
    SIDEWAYS: "bands-few-chain",
    DELAYED: "bands-few-delayed",
    BACKPROP: "bands-few-backprop",
    NOISY: "bands-few-noisy",
}


def converges(lab: Lab) -> Finding:
    """Train the chain by Sideways, by Delayed and by backpropagation; every training clip is new."""
    seeds, clips = lab.seeds_of(2, 3, 10), lab.pick(80, 250, 500)
    runs = _train(lab, CONVERGES, seeds, clips)
    title = f"Wavelength of waves, every clip new, {counted(seeds)}"
    loss = {arm: _last(runs[arm]) for arm in CONVERGES}
    held_out = {arm: runs[arm].accuracies for arm in CONVERGES}
    return Finding(
        converged(SIDEWAYS, loss, held_out),
        "held out: " + ", ".join(f"{arm} {spread(values)}" for arm, values in held_out.items()),
        f"vgg5 on the wavelength of waves gliding 1 px per frame, {clips} clips × 32, {counted(seeds)}, recipes "
        f"{', '.join(CONVERGES.values())}",
        _rows(runs),
        "The settings of the recipes. For --quick 60 clips were tried (too few for either arm), and 120 (more than "
        "needed).",
        [_picture(lab, runs, clips, title, "converges.png")],
        exact=converged(DELAYED, loss, held_out),
    )


def regularises(lab: Lab) -> Finding:
    """Train the chain on 64 clips: by Sideways, by Delayed, by backpropagation, and by backpropagation with noise."""
    seeds, clips = lab.seeds_of(3, 3, 10), lab.pick(80, 250, 500)
    runs = _train(lab, REGULARISES, seeds, clips)
    title = f"Wavelength of waves, 64 training clips, {counted(seeds)}"
    held_out = {arm: runs[arm].accuracies for arm in REGULARISES}
    return Finding(
        regularised(SIDEWAYS, held_out, runs[SIDEWAYS].samples),
        "held out, less backprop's: "
        + ", ".join(f"{arm} {difference_text(held_out[arm], held_out[BACKPROP])}" for arm in (SIDEWAYS, DELAYED)),
        f"vgg5 on the wavelength of waves, {clips // 4} rounds over 4 batches of 16 clips, {counted(seeds)}, recipes "
        "bands-few-*; noise: Gaussian, for each unit with the norm of Sideways' error on that clip",
        _rows(runs),
        "The settings of the recipes; one size of the training set.",
        [_picture(lab, runs, clips, title, "regularises.png")],
        "A rule that fits its training clips less well also has a narrower gap to the held-out clips. Therefore only "
        "the results on held-out clips count here.",
        regularised(DELAYED, held_out, runs[DELAYED].samples),
    )


def _train(lab: Lab, arms: dict[str, str], seeds: range, clips: int) -> dict[str, ArmResults]:
    every = max(1, clips // 5)
    return lab.train({arm: recipe(name, clips=clips, evaluate_every=every) for arm, name in arms.items()}, seeds)


def _last(runs: ArmResults, metric: str = "loss") -> list[float]:
    """The mean training loss, or accuracy, of the last tenth of each run."""
    means = []
    for values in runs.metrics("train", metric):
        count = len(values) // 10 + 1
        means.append(sum(values[-count:]) / count)
    return means


def converged(arm: str, losses: dict[str, list[float]], held_out: dict[str, list[float]]) -> Verdict:
    """Check that an arm's held-out accuracy is within .05 of backprop's, and its last loss at most a fifth above."""
    loss, others = losses[arm], losses[BACKPROP]
    ratio = (sum(loss) / len(loss)) / (sum(others) / len(others)) if loss and others else float("inf")
    return judged(
        Check(
            bool(loss and others) and difference(held_out[arm], held_out[BACKPROP])[0] >= -0.05,
            f"held-out accuracy of {arm} at most .05 below backprop's",
            difference_text(held_out[arm], held_out[BACKPROP]),
        ),
        Check(ratio <= 1.2, f"training loss of {arm} at the end at most 1.2 times backprop's", f"{ratio:.2f} times"),
    )


def regularised(arm: str, held_out: dict[str, list[float]], samples: int) -> Verdict:
    """Check that an arm generalises better than backprop, and better than backprop with noise of Sideways' size."""
    return judged(
        clearly_above(f"held-out accuracy of {arm}", held_out[arm], "backprop's", held_out[BACKPROP], samples),
        clearly_above(
            f"held-out accuracy of {arm}",
            held_out[arm],
            "that of backprop with noise as large as Sideways' error",
            held_out[NOISY],
            samples,
        ),
    )


def _rows(runs: dict[str, ArmResults]) -> Rows:
    return [
        {
            "arm": arm,
            "seeds": str(results.count),
            "training loss at the end": spread(_last(results), 4),
            "held-out loss": spread(results.values("loss"), 4),
            "training accuracy at the end": spread(_last(results, "accuracy")),
            "held-out accuracy": spread(results.accuracies),
        }
        for arm, results in runs.items()
    ]


def _picture(lab: Lab, runs: dict[str, ArmResults], clips: int, title: str, name: str) -> Path:
    """Draw the training loss over twenty stretches of the training, and the held-out accuracy."""
    figure, axes = panels(2)
    trained, held_out = [], []
    span = max(1, clips // 20)
    for arm, results in runs.items():
        over_time = list(zip(*results.metrics("train", "loss"), strict=True))
        chunks = [over_time[start : start + span] for start in range(0, clips - span + 1, span)]
        means = [[sum(values) / len(values) for values in zip(*chunk, strict=True)] for chunk in chunks]
        trained.append(Curve(arm, [span * (i + 1) for i in range(len(chunks))], means))
        if evaluated := results.metrics("evaluation", "clip"):
            accuracies = list(zip(*results.metrics("evaluation", "accuracy"), strict=True))
            held_out.append(Curve(arm, evaluated[0], accuracies))
    draw_lines(axes[0], trained, "training clips (batches)", "training loss (nats)", title, yscale="log")
    draw_lines(axes[1], held_out, "training clips (batches)", "held-out accuracy", "Held out", ylim=(0, 1.02))
    return save(figure, lab.directory / name)


CLAIMS = {
    "converges": Claim("Training by Sideways converges where backpropagation does.", CVPR2020, converges),
    "regularises": Claim(
        "Sideways generalises better than backpropagation: its noise regularises.", CVPR2020, regularises
    ),
}
