"""future: the frame two ticks ahead. Skip-Sideways, chain, exact bptt, one frame, repeat, linear extrapolation."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy

from sideways.checkpoint import find, trained
from sideways.claims.claim import CVPR2021, Bench, Claim, Finding, Rows, Runs, recipe
from sideways.claims.pictures import Line, draw_lines, draw_points, panels, save
from sideways.claims.verdict import Verdict, above, judged, spread
from sideways.config import build_task, make_rule
from sideways.prediction import psnr, roll_out, scored
from sideways.training import session

ARMS = {
    "Skip-Sideways": "skip",
    "Sideways, chain": "chain",
    "exact bptt, skip network": "bptt",
    "one frame, no delay": "backprop",
}
SKIP, CHAIN, BPTT, ONE = ARMS
REPEAT, EXTRAPOLATION = "repeat the newest frame", "linear extrapolation"
PLACES = {"waves": "waves gliding 0.5 px per frame", "clips": "real video, crops that stand still"}
Scores = dict[str, list[tuple[float, float]]]  # what predicts → PSNR (dB) and SSIM, a pair for each seed


def future(bench: Bench) -> Finding:
    clips = bench.pick(150, 300, 600)
    rows: Rows = []
    figure, axes = panels(3, 6.4)
    found: dict[str, Scores] = {}
    kept: list[Path] = []
    for (place, words), panel in zip(PLACES.items(), axes, strict=False):
        seeds = bench.seeds_of(1, 3, 5)
        endings = dict(ARMS)
        if place == "clips" and bench.effort == "quick":
            endings = {arm: ARMS[arm] for arm in (SKIP, CHAIN)}
        arms = {arm: recipe(f"{place}-predictor-{ending}", clips=clips) for arm, ending in endings.items()}
        runs = bench.train(arms, seeds, place)
        found[place] = scores = judge(runs)
        rows += [_row(words, arm, values) for arm, values in scores.items()]
        title = f"Two ticks ahead, {words}"
        draw_points(panel, {arm: [p for p, _ in values] for arm, values in scores.items()}, "PSNR (dB)", title)
        kept += _pictures(runs[SKIP].directories[0], bench.directory, place)
        if place == "waves":
            steps, rolled = rolled_out(runs[SKIP].directories[0])
            lines = [Line(name, range(1, steps + 1), values) for name, values in rolled.items()]
            draw_lines(axes[2], lines, "frames after the last given", "PSNR (dB)", "Rolled out: guesses fed back")
    waves = {arm: [ratio for ratio, _ in values] for arm, values in found["waves"].items()}
    real = {arm: [ratio for ratio, _ in values] for arm, values in found["clips"].items()}
    return Finding(
        verdict(waves, real),
        f"waves {spread(waves[SKIP], 1, ' dB')}: repeat {spread(waves[REPEAT], 1)}, chain {spread(waves[CHAIN], 1)}; "
        f"video {spread(real[SKIP], 1, ' dB')}: repeat {spread(real[REPEAT], 1)}, chain {spread(real[CHAIN], 1)}",
        f"predictor and predictor-skip, 16×16 grey, {clips} clips; recipes waves-predictor-* and clips-predictor-*",
        rows,
        "The recipes' own. A skip from the first unit instead of the raw frame was tried on waves before, and failed.",
        [save(figure, bench.directory / "future.png"), *kept],
        "`prediction-*.mp4` beside the plot play truth, prediction and error.",
    )


def judge(runs: dict[str, Runs]) -> Scores:
    """PSNR and SSIM of each arm's networks on held-out clips; and of what needs no learning."""
    scores: Scores = {}
    for arm, mine in runs.items():
        for directory in mine.directories:
            held = trained(find(directory))
            with session(held.config):
                task, config = build_task(held.config), held.config
                rule = make_rule(config, held.network)
                values, _ = scored(rule, task, config.horizon, config.batch, config.evaluation_clips)
            for (what, age), pair in values.items():
                if what == "network":
                    scores.setdefault(arm, []).append(pair)
                elif arm == SKIP and age == 0:
                    scores.setdefault(REPEAT if what == "repeat" else EXTRAPOLATION, []).append(pair)
    return scores


def rolled_out(directory: Path) -> tuple[int, dict[str, list[float]]]:
    """PSNR of each frame after the last given, guesses fed back; beside it the last frame, again and again."""
    held = trained(find(directory))
    config = held.config
    with session(config):
        task = build_task(config)
        rule = make_rule(config, held.network)
        clip = task.clip("test", 0, config.batch)
        frames = numpy.stack([numpy.asarray(frame) for frame in clip.frames])
        steps = len(frames) // 2
        given, truth = frames[:-steps], frames[-steps:]
        guesses = roll_out(rule, given, steps, config.horizon)
    repeated = numpy.broadcast_to(given[-1], truth.shape)
    return steps, {
        SKIP: [float(psnr(truth[k], guesses[k], task.span).mean()) for k in range(steps)],
        "repeat the last frame given": [float(psnr(truth[k], repeated[k], task.span).mean()) for k in range(steps)],
    }


def verdict(waves: dict[str, list[float]], real: dict[str, list[float]]) -> Verdict:
    """On waves at least 4 dB above repeating and 8 dB above the chain; on video above both."""
    return judged(
        above("Skip-Sideways on waves", waves[SKIP], "repeating the newest frame", waves[REPEAT], 4, " dB"),
        above("Skip-Sideways on waves", waves[SKIP], "the chain", waves[CHAIN], 8, " dB"),
        above("Skip-Sideways on video", real[SKIP], "the chain", real[CHAIN], 0, " dB"),
        above("Skip-Sideways on video", real[SKIP], "repeating the newest frame", real[REPEAT], 0, " dB"),
    )


def _row(words: str, arm: str, values: list[tuple[float, float]]) -> dict[str, str]:
    ratios, similarities = zip(*values, strict=True)
    return {
        "frames": words,
        "prediction": arm,
        "seeds": str(len(values)),
        "PSNR dB": spread(ratios, 2),
        "SSIM": spread(similarities),
    }


def _pictures(run: Path, folder: Path, place: str) -> list[Path]:
    """A run's own figures and video, beside the plot of the claim."""
    for name in ("prediction.png", "roll-out.png"):
        shutil.copy(run / "plots" / name, folder / f"{place}-{name}")
    shutil.copy(run / "prediction.mp4", folder / f"prediction-{place}.mp4")
    return [folder / f"{place}-prediction.png"]


CLAIM = Claim("Skip-Sideways predicts future frames better than Sideways.", CVPR2021, future)
