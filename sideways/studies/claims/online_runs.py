"""The runs of the claim `online`: their settings, the trial that chose the rates, and the courses in files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy

from sideways.studies.claims.claim import Lab, Rows, folder_name
from sideways.studies.claims.online_course import (
    ADAM,
    BASELINES,
    BLOCK,
    BLOCKED,
    DELAYED,
    LEAD,
    MARKED,
    ORTHOGONAL,
    RMSPROP,
    SIDEWAYS,
    SLOW,
    TOP,
    WAITING,
    WINDOW,
    Course,
    Settings,
    learn,
)
from sideways.studies.claims.online_streams import FILM_STREAM, HORIZON, STREAMS, Stream
from sideways.training.log import ShowProgress
from sideways.training.several import run_calls

RATES = {  # (rule, optimizer) → learning rate, chosen by `trial`
    (SIDEWAYS, ADAM): 3e-3,
    (SIDEWAYS, RMSPROP): 1e-3,
    (SIDEWAYS, SLOW): 3e-3,
    (SIDEWAYS, ORTHOGONAL): 3e-3,
    (DELAYED, ADAM): 1e-3,
    (DELAYED, RMSPROP): 3e-3,
    (DELAYED, SLOW): 3e-3,
    (DELAYED, ORTHOGONAL): 3e-3,
    (MARKED, ADAM): 3e-3,
    (MARKED, RMSPROP): 3e-3,
    (MARKED, ORTHOGONAL): 3e-3,
    (BLOCKED, ADAM): 1e-3,
    (BLOCKED, RMSPROP): 3e-3,
    (BLOCKED, ORTHOGONAL): 3e-3,
    (WAITING, ADAM): 1e-2,
    (TOP, ADAM): 1e-3,
}
GRID = (1e-3, 3e-3, 1e-2)  # learning rates of the trial, the same for all
LOWER = 3e-4  # tried where the lowest rate of the grid is the best
TRIAL_SEED = 101  # of the trial, not among the seeds of the experiment
LAST = 4  # the last of so many parts of a stream counts

Key = tuple[str, str]  # rule, optimizer
Gains = list[list[float]]  # seed → sample → dB above repeating


@dataclass(frozen=True)
class Outcome:
    """The outcome of one learner on one stream, for all seeds."""

    rate: float
    courses: list[Course]

    @property
    def inside(self) -> Gains:
        """The gains in the last part of the stream; a sample is BLOCK frames of it."""
        return [course.inside[-max(len(course.inside) // LAST, 2) :] for course in self.courses]

    def outside(self, title: str = "") -> Gains:
        """The gains on each held-out sample at the end, as the mean of the last two looks; of one film, or of all."""
        return [
            [
                float(numpy.mean(gains))
                for name, looks in course.outside.items()
                if title in ("", name)
                for gains in zip(*looks[-2:], strict=True)
            ]
            for course in self.courses
        ]


Outcomes = dict[Key, Outcome]


def differences(gains: Gains, others: Gains) -> Gains:
    """Subtract others from the gains, sample by sample; both have the same seeds and samples."""
    return [[a - b for a, b in zip(*of_seed, strict=True)] for of_seed in zip(gains, others, strict=True)]


def followed(lab: Lab, name: str, seeds: Iterable[int], count: int) -> Outcomes:
    """Learn from a stream by each rule and optimizer, and measure the baselines on the same frames."""
    keys: dict[Key, float] = {**RATES, **{(baseline, ""): 0.0 for baseline in BASELINES}}
    runs = {(key, seed): Settings(*key, rate, seed) for key, rate in keys.items() for seed in seeds}
    courses = run_all(lab, name, list(runs.values()), count)
    return {key: Outcome(rate, [courses[runs[key, seed]] for seed in seeds]) for key, rate in keys.items()}


def trial(lab: Lab, count: int = 2000) -> Rows:
    """Measure the error in the film of `TRIAL_SEED` at each rate of the grid and, for blocked bptt, with each window.

    A row for each rule, optimizer and window: the mean gain in the second half of the stream, in dB, for each rate.
    `RATES` and `WINDOW` have the best. Held-out frames play no part in it, and neither does Doom.
    """
    arms = [(*key, window) for key in RATES for window in ((1, 2, 4) if key[0] == BLOCKED else (WINDOW,))]
    gains = _second_half(lab, [(arm, rate) for arm in arms for rate in GRID], count)
    lowest = [arm for arm in arms if max(GRID, key=lambda rate: gains[arm, rate]) == GRID[0]]
    gains |= _second_half(lab, [(arm, LOWER) for arm in lowest], count)
    return [
        {"rule": rule, "optimizer": optimizer, "window": f"{window} D" if rule == BLOCKED else ""}
        | {
            f"rate {rate:g}": f"{gains[(rule, optimizer, window), rate]:+.2f}"
            for rate in (LOWER, *GRID)
            if ((rule, optimizer, window), rate) in gains
        }
        for rule, optimizer, window in arms
    ]


Arm = tuple[str, str, int]  # rule, optimizer, window


def _second_half(lab: Lab, runs: Sequence[tuple[Arm, float]], count: int) -> dict[tuple[Arm, float], float]:
    """The mean gain of each arm at a rate in the second half of the film of `TRIAL_SEED`, in dB."""
    settings = {(arm, rate): Settings(*arm[:2], rate, TRIAL_SEED, arm[2]) for arm, rate in runs}
    courses = run_all(lab, FILM_STREAM, list(settings.values()), count)
    return {run: float(numpy.mean(courses[one].inside[count // BLOCK // 2 :])) for run, one in settings.items()}


def run_all(lab: Lab, name: str, settings: Sequence[Settings], count: int) -> dict[Settings, Course]:
    """Run each of the settings on the stream of this name, in the lab's processes. With --resume, finished runs stay.

    count: frames of the stream. A stream is made only if one of its runs is missing.
    """
    places = {one: lab.directory / "runs" / name / _file_name(one) for one in settings}
    done = {one: course for one, path in places.items() if lab.resume and (course := _kept(path, one, count))}
    missing = [one for one in settings if one not in done]
    make = STREAMS[name]
    streams = {seed: make(seed, count + HORIZON, LEAD) for seed in sorted({one.seed for one in missing})}
    calls = [partial(_run, one, streams[one.seed], places[one]) for one in missing]
    blocks = len(calls) * (count // BLOCK)
    new = run_calls(calls, blocks, f"{BLOCK} frames", lab.processes, f"online, {name}")
    return done | dict(zip(missing, new, strict=True))


def _run(settings: Settings, stream: Stream, path: Path, show: ShowProgress) -> Course:
    """Run, and write the course to a file, whole or not at all."""
    course = learn(settings, stream, show)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps({"settings": _tables(settings, len(stream.frames)), "course": asdict(course)}))
    os.replace(draft, path)
    return course


def _kept(path: Path, settings: Settings, count: int) -> Course | None:
    """The course in a file, if that is of these settings."""
    if not path.exists():
        return None
    entries = json.loads(path.read_text())
    return Course(**entries["course"]) if entries["settings"] == _tables(settings, count + HORIZON) else None


def _tables(settings: Settings, frames: int) -> dict[str, Any]:
    return asdict(settings) | {"frames": frames}


def _file_name(settings: Settings) -> Path:
    window = "" if settings.window == WINDOW else f"window {settings.window}"
    arm = folder_name(f"{settings.rule} {settings.optimizer} {settings.rate or ''} {window}")
    return Path(arm) / f"seed-{settings.seed}.json"
