"""Several runs side by side: seeds, splits, the rules of a demo."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, wait
from multiprocessing import active_children, get_context
from pathlib import Path
from queue import Empty
from typing import Any, TypeVar

from tqdm import tqdm

from sideways.config import Config
from sideways.errors import DivergedError
from sideways.training import Progress, Result, train

T = TypeVar("T")


def train_many(jobs: list[tuple[Config, Path]], processes: int, title: str, resume: Path | None = None) -> list[Result]:
    """Runs in several processes, under one progress bar; results in the order of the jobs. The first error ends all.

    resume: a checkpoint of the only job.
    """
    return _many(train, jobs, processes, title, resume)


def try_many(jobs: list[tuple[Config, Path]], processes: int, title: str) -> list[Result | DivergedError]:
    """As `train_many`, but what a run that diverged raises is its result, and ends no other."""
    return _many(_try, jobs, processes, title, None)


def _try(config: Config, directory: Path, progress: Progress, resume: Path | None = None) -> Result | DivergedError:
    try:
        return train(config, directory, progress, resume)
    except DivergedError as error:
        return error


def _many(
    work: Callable[..., T], jobs: list[tuple[Config, Path]], processes: int, title: str, resume: Path | None
) -> list[T]:
    clips = sum(config.clips for config, _ in jobs)
    with tqdm(total=clips, unit="clip", desc=title, dynamic_ncols=True, disable=None) as bar:

        def progress(done: int, line: str) -> None:
            bar.update(done)
            bar.set_postfix_str(line)

        if len(jobs) == 1 or processes == 1:
            return [work(config, directory, progress, resume) for config, directory in jobs]
        return _side_by_side(work, jobs, processes, progress)


def _side_by_side(
    work: Callable[..., T], jobs: list[tuple[Config, Path]], processes: int, progress: Progress
) -> list[T]:
    with get_context("spawn").Manager() as manager, ProcessPoolExecutor(processes, get_context("spawn")) as executor:
        lines = manager.Queue()
        futures = [executor.submit(_elsewhere, work, config, directory, lines) for config, directory in jobs]
        try:
            while not all(future.done() for future in futures) or not lines.empty():
                with contextlib.suppress(Empty):
                    progress(*lines.get(timeout=0.2))
                for future in futures:
                    if future.done():
                        future.result()
        except KeyboardInterrupt:
            wait(futures, timeout=60)  # they were asked as well, and write their checkpoints
            raise
        except BaseException:
            for process in active_children():
                process.kill()
            raise
        return [future.result() for future in futures]


def _elsewhere(work: Callable[..., T], config: Config, directory: Path, lines: Any) -> T:
    return work(config, directory, lambda clips, line: lines.put((clips, line)))
