"""remedies: which change helps where pseudo-gradients fail, and what does it cost? Each change alone, in one table."""

from __future__ import annotations

import numpy

from sideways.studies.claims.aligned import measure
from sideways.studies.claims.claim import OURS, ArmResults, Claim, Finding, Lab, Rows, recipe
from sideways.studies.claims.figures import draw_points, panels, save
from sideways.studies.claims.future import SKIP as PREDICTOR
from sideways.studies.claims.future import judge
from sideways.studies.claims.verdict import Verdict, above, clearly_above, judged, spread
from sideways.training.checkpoint import listed, load_trained
from sideways.training.metrics import mean_and_spread

PLAIN, DELAYED, RATES, NORM, FROZEN, RAW, EXACT = (
    "nothing",
    "Delayed",
    "rates by distance",
    "normalisation",
    "frozen below the merge",
    "skip from the raw frame",
    "exact bptt (waits)",
)
DIRECTION = {  # remedy → recipe
    PLAIN: "waves-bare",
    DELAYED: "waves-bare-delayed",
    RATES: "waves-bare-rates",
    NORM: "waves-skip",
    FROZEN: "waves-bare-frozen",
    RAW: "waves-bare-frame",
    EXACT: "waves-bare-bptt",
}
AHEAD = {  # remedy → recipe; the predictor has no normalisation, and its skip edge starts at the raw frame
    PLAIN: "waves-predictor-skip",
    DELAYED: "waves-predictor-delayed",
    RATES: "waves-predictor-rates",
    FROZEN: "waves-predictor-frozen",
    EXACT: "waves-predictor-bptt",
}
MERGE = "conv4"


def remedies(lab: Lab) -> Finding:
    """Train without normalisation, with each remedy alone; compare accuracy, memory and time."""
    seeds, clips, batches = lab.seeds_of(2, 5, 10), lab.pick(100, 250, 250), lab.pick(8, 24, 96)
    every = 18 * clips // 3
    arms = {
        arm: recipe(name, clips=clips, checkpoint_every=every, keep_checkpoints=5) for arm, name in DIRECTION.items()
    }
    runs = lab.train(arms, seeds, "direction")
    ahead_seeds, ahead_clips = lab.seeds_of(1, 3, 5), lab.pick(60, 300, 600)
    ahead_arms = {arm: recipe(name, clips=ahead_clips) for arm, name in AHEAD.items()}
    ahead = lab.train(ahead_arms, ahead_seeds, "ahead")
    scores = {arm: judge({PREDICTOR: results}).get(PREDICTOR, []) for arm, results in ahead.items()}
    ratios = {arm: [ratio for ratio, _ in values] for arm, values in scores.items()}
    rows: Rows = []
    for arm, config in arms.items():
        snapshots = [listed(directory)[0] for directory in runs[arm].directories[:1]]
        means = [measure(config, load_trained(path).network, batches)[0] for path in snapshots if arm != EXACT]
        below_merge = {unit: value for mean in means for unit, value in mean.items() if unit < MERGE}
        rows.append(_row(arm, runs[arm], below_merge, ratios.get(arm, [])))
    figure, axes = panels(2, 5.2)
    accuracy = {arm: results.accuracies for arm, results in runs.items()}
    title = f"Direction of waves without normalisation:\n{clips} clips"
    draw_points(axes[0], accuracy, "held-out accuracy", title, {"chance": 0.25}, DIRECTION)
    draw_points(axes[1], ratios, "PSNR (dB)", f"Two ticks ahead, waves:\n{ahead_clips} clips", names=DIRECTION)
    axes[0].set_xlim(0, 1.02)
    best = max((arm for arm in accuracy if arm not in (PLAIN, EXACT)), key=lambda a: mean_and_spread(accuracy[a])[0])
    return Finding(
        verdict(accuracy, ratios, runs[PLAIN].samples),
        f"nothing {spread(accuracy[PLAIN])}; Delayed {spread(accuracy[DELAYED])}; best without waiting: {best}, "
        f"{spread(accuracy[best])}",
        f"direction of waves by vgg5-skip without normalisation, {clips} clips, recipes waves-bare*; two ticks ahead, "
        f"{ahead_clips} clips, recipes waves-predictor-*",
        rows,
        "Rates: × 0.3, 0.1, 0.03 for units one, two and three below the merge; no other factors were tried. All other "
        "settings are those of the recipes.",
        [save(figure, lab.directory / "remedies.png")],
        choice(accuracy, ratios, {arm: results.values("activation_megabytes") for arm, results in runs.items()}),
    )


def choice(accuracy: dict[str, list[float]], ratios: dict[str, list[float]], memory: dict[str, list[float]]) -> str:
    """Name the remedies to choose: for classes the leanest within .02 of the best, for frames the best."""
    mean = {arm: mean_and_spread(values)[0] for arm, values in memory.items() if values}
    means = {arm: mean_and_spread(values)[0] for arm, values in accuracy.items() if arm != EXACT and arm in mean}
    frames = {arm: mean_and_spread(values)[0] for arm, values in ratios.items() if arm != EXACT and values}
    if not means or not frames or not {PLAIN, DELAYED, EXACT} <= mean.keys():
        return ""
    good = [arm for arm, value in means.items() if value >= max(means.values()) - 0.02]
    leanest = min(good, key=lambda arm: mean[arm])
    best_for_frames = max(frames, key=lambda arm: frames[arm])
    return (
        f"The remedies to choose, by these numbers: for classes, among the remedies within .02 of the best "
        f"({', '.join(good)}), **{leanest}** needs the least memory; for frames, **{best_for_frames}** "
        f"({frames[best_for_frames]:.1f} dB) predicts best. Delayed takes "
        f"{mean[DELAYED] / mean[PLAIN]:.1f} times the memory of Sideways here, and one more forward pass per "
        f"tick; exact bptt {mean[EXACT] / mean[PLAIN]:.1f} times."
    )


def verdict(accuracy: dict[str, list[float]], ratios: dict[str, list[float]], samples: int) -> Verdict:
    """Check that Delayed is clearly above Sideways and near exact bptt."""
    return judged(
        clearly_above("Delayed, direction", accuracy[DELAYED], "Sideways", accuracy[PLAIN], samples),
        above("Delayed, direction,", accuracy[DELAYED], "exact bptt", accuracy[EXACT], -0.05, ""),
        above("Delayed, two ticks ahead,", ratios[DELAYED], "Sideways", ratios[PLAIN], -0.2, " dB"),
    )


def _row(arm: str, runs: ArmResults, below_merge: dict[str, float], ratios: list[float]) -> dict[str, str]:
    return {
        "remedy": arm,
        "seeds": str(runs.count),
        "direction, accuracy": spread(runs.accuracies),
        "diverged": str(runs.diverged),
        "cosines below the merge, seed 1": ", ".join(f"{value:+.2f}" for value in below_merge.values()),
        "two ticks ahead, PSNR dB": spread(ratios, 2),
        "MB of activations": f"{numpy.mean(runs.values('activation_megabytes')):.1f}" if runs.finished else "",
        "ms per frame, side by side": spread(runs.values("milliseconds_per_frame")),
    }


CLAIM = Claim(
    "Pulling each gradient through the input it belongs to (`Delayed`) mends training where pseudo-gradients break it.",
    OURS,
    remedies,
)
