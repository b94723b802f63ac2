"""temporal: does Skip-Sideways learn the direction of motion, which no single frame shows? On waves and on video."""

from __future__ import annotations

from sideways.studies.claims.claim import CVPR2021, ArmResults, Claim, Finding, Lab, Rows, recipe
from sideways.studies.claims.figures import draw_points, panels, save
from sideways.studies.claims.verdict import Verdict, at_chance, at_least, clearly_above, counted, judged, spread

ARMS = {  # arm → variant of the recipe
    "Skip-Sideways, concat": "skip",
    "Skip-Sideways, add": "add",
    "Sideways, chain": "chain",
    "Sideways, shortcuts": "shortcut",
    "exact bptt, skip network": "bptt",
    "Skip-Sideways, frozen below the merge": "frozen",
}
SKIP, ADD, CHAIN, SHORTCUT, BPTT, FROZEN = ARMS


def temporal(lab: Lab) -> Finding:
    """Train chains and skip networks, by Sideways and exactly, on the direction of motion; compare accuracies."""
    rows: Rows = []
    figure, axes = panels(2, width=5.2)
    results = {}
    for task, label, panel in zip(("waves", "pan"), ("moving waves", "pan over real video"), axes, strict=True):
        seeds = lab.seeds_of(2, 5, 10) if task == "waves" else lab.seeds_of(1, 3, 10)
        clips = lab.pick(100, 250, 250) if task == "waves" else lab.pick(150, 300, 300)
        variants = dict(ARMS)
        if task == "pan" and lab.effort == "quick":
            variants = {arm: ARMS[arm] for arm in (SKIP, CHAIN, BPTT)}
        arms = {arm: recipe(f"{task}-{variant}", clips=clips) for arm, variant in variants.items()}
        results[task] = runs = lab.train(arms, seeds, task)
        rows += [_row(label, arm, runs[arm], clips, arms[arm].batch) for arm in arms]
        chance = {"chance": 0.25}
        title = f"Direction of {label}:\n{clips} clips, {counted(seeds)}"
        draw_points(panel, {arm: run.accuracies for arm, run in runs.items()}, "held-out accuracy", title, chance, ARMS)
        panel.set_xlim(0, 1.02)
    waves = {arm: run.accuracies for arm, run in results["waves"].items()}
    pan = {arm: run.accuracies for arm, run in results["pan"].items()}
    return Finding(
        verdict(waves, pan, results["waves"][SKIP].samples, results["pan"][SKIP].samples),
        f"waves {spread(waves[SKIP])} (chain {spread(waves[CHAIN])}); pan {spread(pan[SKIP])} "
        f"(chain {spread(pan[CHAIN])})",
        "vgg5 and vgg5-skip on 16×16 grey frames, clips of 18; recipes waves-* and pan-*",
        rows,
        "The settings of the recipes, chosen in earlier experiments; only the number of clips was changed.",
        [save(figure, lab.directory / "temporal.png")],
        f"With all units below the merge frozen: waves {spread(waves[FROZEN])}"
        + (f", pan {spread(pan[FROZEN])}" if FROZEN in pan else "")
        + ". If freezing these units costs no accuracy, their pseudo-gradients were useless or harmful.",
    )


def verdict(waves: dict[str, list[float]], pan: dict[str, list[float]], samples: int, crops: int) -> Verdict:
    """Check concat ≥ .97, the chain at chance and bptt ≥ .99 on waves; concat above the chain and ≥ .8 on video."""
    return judged(
        at_least("Skip-Sideways by concat on waves", waves[SKIP], 0.97),
        at_chance("the chain on waves", waves[CHAIN], 0.25, samples),
        at_chance("shortcuts inside units on waves", waves[SHORTCUT], 0.25, samples),
        at_least("exact bptt on waves", waves[BPTT], 0.99),
        at_least("Skip-Sideways by add on waves", waves[ADD], 0.9),
        clearly_above("Skip-Sideways by concat on video", pan[SKIP], "the chain", pan[CHAIN], crops),
        at_least("Skip-Sideways by concat on video", pan[SKIP], 0.8),
        *([at_least("Skip-Sideways by add on video", pan[ADD], 0.8)] if ADD in pan else []),
    )


def _row(label: str, arm: str, runs: ArmResults, clips: int, batch: int) -> dict[str, str]:
    seconds = [1e-3 * value * clips * batch * 18 for value in runs.values("milliseconds_per_frame")]
    return {
        "task": label,
        "arm": arm,
        "seeds": str(runs.count),
        "held-out accuracy": spread(runs.accuracies),
        "held-out loss": spread(runs.values("loss"), 4),
        "seconds of training": spread(seconds, 0),
    }


CLAIM = Claim(
    "Skip connections that carry activations over units and ticks let a network learn temporal features; the chain has "
    "none.",
    CVPR2021,
    temporal,
)
