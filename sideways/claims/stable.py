"""stable: do skip connections make training steadier? Sideways and Skip-Sideways over learning rates and seeds."""

from __future__ import annotations

import numpy

from sideways.claims.claim import CVPR2021, Bench, Claim, Finding, Rows, Runs, recipe
from sideways.claims.pictures import Line, draw_lines, panels, save
from sideways.claims.verdict import Check, Verdict, counted, judged, spread
from sideways.metrics import mean_and_spread

ARMS = {"Sideways, chain": "bands-chain", "Skip-Sideways": "bands-skip"}
CHAIN, SKIP = ARMS


def stable(bench: Bench) -> Finding:
    seeds, clips = bench.seeds_of(5, 5, 10), bench.pick(40, 150, 250)
    rates = bench.pick((1e-3, 1e-2, 1e-1), (5e-4, 2e-3, 8e-3, 3e-2, 1e-1), (5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 3e-2, 1e-1))
    arms = {
        f"{arm}, rate {rate:g}": recipe(name, clips=clips, optimizer={"learning_rate": rate})
        for arm, name in ARMS.items()
        for rate in rates
    }
    runs = bench.train(arms, seeds)
    rows: Rows = []
    measured: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
    for arm in ARMS:
        for rate in rates:
            mine = runs[f"{arm}, rate {rate:g}"]
            found = steadiness(mine)
            measured[arm].append(found)
            rows.append(
                {
                    "arm": arm,
                    "learning rate": f"{rate:g}",
                    "seeds": str(mine.count),
                    "held-out accuracy": spread(mine.accuracies),
                    "loss, deviation over time": f"{found['over time']:.3f}",
                    "diverged": f"{mine.diverged} of {mine.count}",
                }
            )
    figure, axes = panels(2)
    about = f"{clips} clips, {counted(seeds)}"
    lines = [Line(arm, rates, [runs[f"{arm}, rate {rate:g}"].accuracies for rate in rates]) for arm in ARMS]
    draw_lines(axes[0], lines, "learning rate (Adam)", "held-out accuracy", f"Accuracy: {about}", xscale="log")
    lines = [Line(arm, rates, [row["over time"] for row in measured[arm]]) for arm in ARMS]
    what = "deviation of the loss over time (nats)"
    draw_lines(axes[1], lines, "learning rate (Adam)", what, f"Last third of training: {about}", xscale="log")
    chain, skip = (_means(measured[arm]) for arm in (CHAIN, SKIP))
    return Finding(
        verdict(chain, skip),
        f"deviation over seeds {skip['over seeds']:.3f} (chain {chain['over seeds']:.3f}), over time "
        f"{skip['over time']:.3f} (chain {chain['over time']:.3f})",
        f"the wavelength of waves (one frame is enough for both), {clips} clips, {counted(seeds)}, recipes bands-*",
        rows,
        f"Adam's learning rates {', '.join(f'{rate:g}' for rate in rates)}, all of them above.",
        [save(figure, bench.directory / "stable.png")],
    )


def steadiness(runs: Runs) -> dict[str, float]:
    """Deviations: of the accuracy over seeds; of the loss from clip to clip in the last third; the part that diverged.

    From clip to clip: that of the differences of neighbours, over √2, so that learning is not taken for noise.
    """
    over_time = [
        float(numpy.diff(losses[-max(len(losses) // 3, 2) :]).std() / 2**0.5)
        for losses in runs.metrics("train", "loss")
    ]
    return {
        "over seeds": mean_and_spread(runs.accuracies)[1],
        "over time": float(numpy.mean(over_time)) if over_time else float("inf"),
        "diverged": runs.diverged / runs.count,
    }


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    return {key: float(numpy.mean([row[key] for row in rows])) for key in rows[0]}


def verdict(chain: dict[str, float], skip: dict[str, float]) -> Verdict:
    """Means over learning rates: Skip-Sideways' deviations a tenth below the chain's, no more runs that diverge."""
    return judged(
        *(
            Check(
                skip[key] <= part * chain[key],
                f"Skip-Sideways' {words} at most {part:g} times the chain's, mean over learning rates",
                f"{skip[key]:.3f} against {chain[key]:.3f}",
            )
            for key, words, part in (
                ("over seeds", "deviation of accuracy over seeds", 0.9),
                ("over time", "deviation of the loss over time", 0.9),
                ("diverged", "part of runs that diverge", 1.0),
            )
        )
    )


CLAIM = Claim("Skip connections make training by Sideways more stable.", CVPR2021, stable)
