"""Claims, their findings, and the lab in which experiments run; each module beside this one holds an experiment."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sideways.data import Task
from sideways.errors import DivergedError
from sideways.rules import Rule
from sideways.studies.claims.verdict import Verdict
from sideways.training.build import build_task, make_rule
from sideways.training.checkpoint import find, load_trained
from sideways.training.config import Config
from sideways.training.recipes import load_recipe, merge
from sideways.training.report.plots import read_metrics
from sideways.training.report.result import Result
from sideways.training.run import session
from sideways.training.several import finished_result, is_of, try_many

T = TypeVar("T")
Rows = list[dict[str, str]]
Group = tuple[Mapping[str, Config], range]  # arms by name, and their seeds
EFFORTS = ("quick", "normal", "full")

CVPR2020 = "Sideways, CVPR 2020"
CVPR2021 = "Skip-Sideways, CVPR 2021"
OURS = "this project"

SKIP, CHAIN = "Skip-Sideways", "Sideways, chain"
WAVES_CLIPS, PAN_CLIPS = 150, 250  # at normal effort, of the tasks that more than one claim trains on


@dataclass(frozen=True)
class Finding:
    """The outcome of an experiment. `finding.json` holds these fields by name."""

    verdict: Verdict
    number: str  # the claim's number, with its spread over seeds
    what: str  # a description of the runs
    rows: Rows
    tried: str  # every setting that was tried, in this experiment and before it
    pictures: Sequence[Path] = ()
    notes: str = ""
    exact: Verdict | None = None  # the verdict on the same claim for the exact rule, `Delayed`, where that was tried
    minutes: float | None = None  # from the start of the experiment, or from the last time that it was resumed


@dataclass(frozen=True)
class Claim:
    """A claim in our words, its source, and the experiment that checks it."""

    words: str
    source: str
    run: Callable[[Lab], Finding]


@dataclass
class Lab:
    """The conditions of an experiment: its folder, its effort, and the results that earlier claims can share."""

    directory: Path
    effort: str = "normal"
    seeds: int | None = None  # None: as many as the experiment asks for
    processes: int = 1
    resume: bool = False  # True: use the finished runs in the folder
    data: tuple[str, ...] = ()  # data sets, named as for `--data`
    results: dict[str, Result | DivergedError] = field(default_factory=dict)  # config as JSON → result

    def pick(self, quick: T, normal: T, full: T) -> T:
        """Choose the setting of this effort."""
        return dict(zip(EFFORTS, (quick, normal, full), strict=True))[self.effort]

    def seeds_of(self, quick: int, normal: int, full: int) -> range:
        """The seeds 1, 2, …: as many as the user asked for, else as many as this effort prescribes."""
        return range(1, 1 + (self.seeds or self.pick(quick, normal, full)))

    def train(self, arms: Mapping[str, Config], seeds: range, group: str = "") -> dict[str, ArmResults]:
        """Train every arm with every seed, side by side under one progress bar, and return the results of each arm.

        A run that diverged is a result too. Claims that ask for a run with the same config share its result. group: a
        subfolder, for an experiment that has several groups of arms. Runs write no plots and no report, which would
        take a short run seconds.
        """
        return self.train_groups({group: (arms, seeds)})[group]

    def train_groups(self, groups: Mapping[str, Group]) -> dict[str, dict[str, ArmResults]]:
        """Train several groups of arms as `train` does one, all in one pool: no core waits for a group's last run."""
        keys: dict[tuple[str, str, int], str] = {}
        jobs: dict[str, tuple[Config, Path]] = {}
        for group, (arms, seeds) in groups.items():
            for arm, seed in ((arm, seed) for arm in arms for seed in seeds):
                config = replace(arms[arm], seed=seed)
                keys[group, arm, seed] = key = _key(config.to_tables())
                folder = self.directory / "runs" / folder_name(group) / folder_name(arm) / f"seed-{seed}"
                if key not in self.results and key not in jobs and not self._found(key, config, folder):
                    jobs[key] = (config, folder)
        if jobs:
            jobs = dict(sorted(jobs.items(), key=lambda job: _work(job[1][0]), reverse=True))  # no long run comes last
            outcomes = try_many(list(jobs.values()), self.processes, self.directory.name, report=False)
            self.results.update(zip(jobs, outcomes, strict=True))
        return {
            group: {
                arm: ArmResults([self.results[keys[group, arm, seed]] for seed in seeds], partial(chance_of, config))
                for arm, config in arms.items()
            }
            for group, (arms, seeds) in groups.items()
        }

    def _found(self, key: str, config: Config, folder: Path) -> bool:
        """Take over the result of a finished run with these settings; remove any other run in its place."""
        if self.resume and folder.exists():
            if is_of(config, folder) and (result := finished_result(folder)) is not None:
                self.results[key] = result
                return True
            shutil.rmtree(folder)
        return False


def finished_runs(folder: Path) -> dict[str, Result]:
    """The results of the finished runs in a claim's folder, as `Lab.results` holds them."""
    found = [(path, finished_result(path.parent)) for path in sorted(folder.glob("runs/**/config.json"))]
    return {_key(json.loads(path.read_text())): result for path, result in found if result is not None}


def _key(tables: Mapping[str, Any]) -> str:
    """A text that two configs share if their runs are the same: summaries of recipes do not count."""
    return json.dumps({**tables, "summary": ""}, sort_keys=True)


def _work(config: Config) -> float:
    """A rough measure of a run's time, to compare the arms of an experiment."""
    of_rule = {"bptt": 4, "delayed": 3 if config.learn_every == 1 else 1}
    units, frames = config.model_options.get("middle", 2) + 3, config.task_options.get("length", 18)
    return config.clips * frames * units * of_rule.get(config.rule, 2)


@contextlib.contextmanager
def opened(directory: Path) -> Iterator[tuple[Config, Task, Rule]]:
    """A finished run: its config, its task, and its trained network under its rule, on the backend of the run."""
    trained = load_trained(find(directory))
    with session(trained.config):
        yield trained.config, build_task(trained.config), make_rule(trained.config, trained.network)


def folder_name(arm: str) -> str:
    """The name of an arm, in which hyphens replace all characters but letters, digits and dots."""
    return "-".join("".join(c if c.isalnum() or c == "." else " " for c in arm).split())


def chance_of(config: Config) -> float:
    """The accuracy of guessing on a task with classes."""
    return 1 / len(build_task(config).classes)


class ArmResults:
    """The results of one arm of an experiment, one for each seed."""

    def __init__(self, outcomes: Sequence[Result | DivergedError], chance: Callable[[], float]):
        self.chance = chance
        self.finished = [outcome for outcome in outcomes if isinstance(outcome, Result)]
        self.diverged = len(outcomes) - len(self.finished)
        self.count = len(outcomes)

    def values(self, name: str) -> list[float]:
        """The values of one field of the results, for each seed that did not diverge."""
        return [getattr(result, name) for result in self.finished]

    @property
    def accuracies(self) -> list[float]:
        """Held-out accuracies; a run that diverged is no better than chance, and counts as chance."""
        return [*self.values("accuracy"), *(self.chance() for _ in range(self.diverged))]

    @property
    def samples(self) -> int:
        """The number of held-out clips of each run."""
        return self.finished[0].samples if self.finished else 1

    @property
    def directories(self) -> list[Path]:
        """The run directories of the seeds that did not diverge."""
        return [Path(result.directory) for result in self.finished]

    def metrics(self, kind: str, name: str) -> list[list[float]]:
        """The values over time of a metric in the metrics.jsonl of each run."""
        return [[line[name] for line in read_metrics(directory, kind)] for directory in self.directories]


def recipe(name: str, **changes: Any) -> Config:
    """The config of a recipe with these changes: tables are merged, single values replaced."""
    return Config.from_tables(merge(load_recipe(name), changes), f"recipe {name}")
