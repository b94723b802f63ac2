"""Several runs side by side: seeds, splits, the rules of a demo."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from multiprocessing import active_children, get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from queue import Empty
from typing import Any, TypeVar

from tqdm import tqdm

from sideways.errors import DivergedError, InputError, Interrupted
from sideways.training.checkpoint import find, is_run, listed
from sideways.training.config import Config
from sideways.training.report.result import Result
from sideways.training.run import ShowProgress, train

Job = tuple[Config, Path]
T = TypeVar("T")


def train_many(
    jobs: list[Job], processes: int, title: str, resume: Path | None = None, going: dict[Path, Path] | None = None
) -> list[Result]:
    """Runs in several processes, under one progress bar; results in the order of the jobs. The first error ends all.

    resume: a checkpoint of the only job. going: run directory → the checkpoint from which that run goes on.
    """
    return _many(train, jobs, processes, title, {jobs[0][1]: resume} if resume else dict(going or {}))


def try_many(jobs: list[Job], processes: int, title: str) -> list[Result | DivergedError]:
    """As `train_many`, but what a run that diverged raises is its result, and ends no other."""
    return _many(_try, jobs, processes, title, {})


def _try(config: Config, directory: Path, progress: ShowProgress, resume: Path | None = None) -> Result | DivergedError:
    try:
        return train(config, directory, progress, resume)
    except DivergedError as error:
        return error


def _many(work: Callable[..., T], jobs: list[Job], processes: int, title: str, starts: dict[Path, Path]) -> list[T]:
    clips = sum(config.clips for config, _ in jobs)
    with tqdm(total=clips, unit="clip", desc=title, dynamic_ncols=True, disable=None) as bar:

        def progress(done: int, line: str) -> None:
            bar.update(done)
            bar.set_postfix_str(line)

        if len(jobs) == 1 or processes == 1:
            return [work(config, directory, progress, starts.get(directory)) for config, directory in jobs]
        return _side_by_side(work, jobs, starts, processes, progress)


def go_on(jobs: list[Job], processes: int, directory: Path) -> list[Result]:
    """Those of these runs in the directory that have not ended: from their newest checkpoints, or from their start."""
    ended: dict[Path, Result] = {}
    going: dict[Path, Path] = {}
    for config, place in jobs:
        if not place.exists():
            continue
        if not is_run(place) or json.loads((place / "config.json").read_text()) != config.to_tables():
            raise InputError(f"{place} exists already, with other settings: choose another --name, or remove it")
        if (place / "results.json").exists():
            ended[place] = _result(place / "results.json")
        elif listed(place):
            going[place] = find(place)
        else:
            shutil.rmtree(place)  # it was stopped before its first checkpoint
    missing = [job for job in jobs if job[1] not in ended]
    if missing:
        results = train_many(missing, processes, directory.name, going=going)
        ended |= {place: result for (_, place), result in zip(missing, results, strict=True)}
    return [ended[place] for _, place in jobs]


def _result(path: Path) -> Result:
    try:
        return Result(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: not a result of this version ({error})") from None


def _side_by_side(
    work: Callable[..., T], jobs: list[Job], starts: dict[Path, Path], processes: int, progress: ShowProgress
) -> list[T]:
    context = get_context("spawn")
    lines = context.Queue()
    with (
        _interrupted_by_sigterm(),
        ProcessPoolExecutor(processes, context, initializer=_begin, initargs=(lines,)) as executor,
    ):
        others = set(active_children())
        futures: list[Future[T]] = [
            executor.submit(_elsewhere, work, config, directory, starts.get(directory)) for config, directory in jobs
        ]
        workers = set(active_children()) - others
        try:
            while not all(future.done() for future in futures) or not lines.empty():
                with contextlib.suppress(Empty):
                    progress(*lines.get(timeout=0.2))
                for future in futures:
                    if future.done():
                        future.result()
        except KeyboardInterrupt:
            _stop(executor, workers, futures)
            raise Interrupted("interrupted") from None
        except BaseException:
            for worker in workers:
                worker.kill()
            raise
        return [future.result() for future in futures]


def _stop(executor: ProcessPoolExecutor, workers: set[BaseProcess], futures: list[Future[T]]) -> None:
    """Runs that wait are not begun; those under way write their checkpoints. A second Ctrl-C ends them at once."""
    executor.shutdown(wait=False, cancel_futures=True)
    for worker in workers:
        worker.terminate()  # what `Journal` takes as the wish to stop
    try:
        wait(futures, timeout=60)
    finally:
        for worker in workers:
            worker.kill()


@contextlib.contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """SIGTERM is as Ctrl-C: the runs must not go on without the process that started them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# In the other processes -----------------------------------------------------------------------------------------------

PR_SET_PDEATHSIG = 1  # Linux: the signal that a child gets when its parent dies


class _Here:
    """What a process that trains for another knows."""

    lines: Any = None  # where progress is told
    asked = False  # to stop: no run is begun any more


def _begin(lines: Any) -> None:
    """Ctrl-C in a terminal goes to the process that started this one alone, which then tells each run to stop.

    Where that process is killed, so is this one.
    """
    _Here.lines = lines
    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, _asked)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _asked(number: int, frame: Any) -> None:
    """No run is under way yet that could be asked."""
    _Here.asked = True


def _elsewhere(work: Callable[..., T], config: Config, directory: Path, start: Path | None) -> T:
    if _Here.asked:
        raise Interrupted
    try:
        return work(config, directory, _progress, start)
    except KeyboardInterrupt:
        _Here.asked = True
        raise


def _progress(clips: int, line: str) -> None:
    _Here.lines.put((clips, line))
    if _Here.asked and clips:
        os.kill(os.getpid(), signal.SIGTERM)  # the run takes it now, after its first clip
