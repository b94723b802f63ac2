"""What a claim and its experiment are made of; every module beside this one holds an experiment or two."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sideways.errors import DivergedError
from sideways.studies.claims.verdict import Verdict
from sideways.training.build import build_task
from sideways.training.config import Config
from sideways.training.recipes import load_recipe
from sideways.training.report.plots import read_metrics
from sideways.training.report.result import Result
from sideways.training.several import try_many

T = TypeVar("T")
Rows = list[dict[str, str]]
EFFORTS = ("quick", "normal", "full")

CVPR2020 = "Sideways, CVPR 2020"
CVPR2021 = "Skip-Sideways, CVPR 2021"
OURS = "this project"


@dataclass(frozen=True)
class Finding:
    """What an experiment came to."""

    verdict: Verdict
    number: str  # the claim's number, with its spread over seeds
    what: str  # was run
    rows: Rows
    tried: str  # all settings that were tried, here and before
    pictures: Sequence[Path] = ()
    notes: str = ""


@dataclass(frozen=True)
class Claim:
    """A claim in our words, where it comes from, and the experiment that checks it."""

    words: str
    source: str
    run: Callable[[Lab], Finding]


@dataclass
class Lab:
    """Where an experiment works: a folder, how much effort, and runs that other claims of this call have made."""

    directory: Path
    effort: str = "normal"
    seeds: int | None = None  # None: as many as the experiment wants
    processes: int = 1
    data: tuple[str, ...] = ()  # data sets as `--data` names them
    made: dict[str, Result | DivergedError] = field(default_factory=dict)  # config → result

    def pick(self, quick: T, normal: T, full: T) -> T:
        """What belongs to this effort."""
        return dict(zip(EFFORTS, (quick, normal, full), strict=True))[self.effort]

    def seeds_of(self, quick: int, normal: int, full: int) -> range:
        """The seeds of this effort, from 1 on, or as many as the user asked for."""
        return range(1, 1 + (self.seeds or self.pick(quick, normal, full)))

    def train(self, arms: Mapping[str, Config], seeds: range, group: str = "") -> dict[str, ArmResults]:
        """Every arm with every seed, side by side under one progress bar; arm → its runs.

        A run that diverged is a result too. The same run is made once, whatever number of claims ask for it. group: a
        folder, where an experiment has several groups of arms.
        """
        wanted = {(arm, seed): replace(config, seed=seed) for arm, config in arms.items() for seed in seeds}
        keys = {where: json.dumps(config.to_tables(), sort_keys=True) for where, config in wanted.items()}
        jobs: dict[str, tuple[Config, Path]] = {}
        for (arm, seed), config in wanted.items():
            if keys[arm, seed] not in self.made:
                words = "-".join("".join(c if c.isalnum() or c == "." else " " for c in arm).split())
                place = self.directory / "runs" / group / words / f"seed-{seed}"
                jobs.setdefault(keys[arm, seed], (config, place))
        if jobs:
            results = try_many(list(jobs.values()), self.processes, self.directory.name)
            self.made.update(zip(jobs, results, strict=True))
        outcomes = {arm: [self.made[keys[arm, seed]] for seed in seeds] for arm in arms}
        return {arm: ArmResults(outcomes[arm], partial(chance_of, config)) for arm, config in arms.items()}


def chance_of(config: Config) -> float:
    """The accuracy of guessing on a task with classes."""
    return 1 / len(build_task(config).classes)


class ArmResults:
    """The runs of one arm, a seed each."""

    def __init__(self, outcomes: Sequence[Result | DivergedError], chance: Callable[[], float]):
        self.chance = chance
        self.finished = [outcome for outcome in outcomes if isinstance(outcome, Result)]
        self.diverged = len(outcomes) - len(self.finished)
        self.count = len(outcomes)

    def values(self, name: str) -> list[float]:
        """A field of the results, one value per seed that did not diverge."""
        return [getattr(result, name) for result in self.finished]

    @property
    def accuracies(self) -> list[float]:
        """Held out; a run that diverged is no better than chance, and counts as that."""
        return [*self.values("accuracy"), *(self.chance() for _ in range(self.diverged))]

    @property
    def samples(self) -> int:
        """Held-out clips of each run."""
        return self.finished[0].samples if self.finished else 1

    @property
    def directories(self) -> list[Path]:
        return [Path(result.directory) for result in self.finished]

    def metrics(self, kind: str, what: str) -> list[list[float]]:
        """What each run logged in its metrics.jsonl, over time."""
        return [[line[what] for line in read_metrics(directory, kind)] for directory in self.directories]


def recipe(name: str, **changes: Any) -> Config:
    """A recipe, with tables merged and single values replaced; what both leave open keeps its default."""
    tables = load_recipe(name)
    for key, value in changes.items():
        tables[key] = tables.get(key, {}) | value if isinstance(value, dict) else value
    return Config.from_tables(tables, f"recipe {name}")
