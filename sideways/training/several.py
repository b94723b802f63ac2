"""Several runs side by side, in processes of their own: seeds, splits, the rules of a demo."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from dataclasses import replace
from functools import partial
from multiprocessing import active_children, get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from queue import Empty
from typing import Any, TypeVar

from tqdm import tqdm

from sideways.errors import DivergedError, InputError, Interrupted
from sideways.training.checkpoint import find, is_run, listed
from sideways.training.config import Config
from sideways.training.log import ShowProgress
from sideways.training.report.result import Result, read_result
from sideways.training.run import train

Job = tuple[Config, Path]
T = TypeVar("T")
IN_A_BROWSER = sys.platform == "emscripten"  # Pyodide: no process can be started there


def train_many(
    jobs: list[Job],
    processes: int,
    title: str,
    resume: Path | None = None,
    starts: dict[Path, Path] | None = None,
    report: bool = True,
) -> list[Result]:
    """Train the jobs in several processes, under one progress bar, and return the results in order. An error ends all.

    resume: a checkpoint of the only job. starts: run directory → the checkpoint from which that run goes on. report:
    False leaves out the plots and the report of each run.
    """
    starts = {jobs[0][1]: resume} if resume else dict(starts or {})
    return _run_all(partial(train, report=report), jobs, processes, title, starts)


def try_many(jobs: list[Job], processes: int, title: str, report: bool = True) -> list[Result | DivergedError]:
    """Train like `train_many`, except that a diverged run returns its error as its result, and ends no other run."""
    return _run_all(partial(_try, report=report), jobs, processes, title, {})


def _try(
    config: Config, directory: Path, show: ShowProgress, resume: Path | None = None, report: bool = True
) -> Result | DivergedError:
    try:
        return train(config, directory, show, resume, report)
    except DivergedError as error:
        return error


def _run_all(work: Callable[..., T], jobs: list[Job], processes: int, title: str, starts: dict[Path, Path]) -> list[T]:
    calls = [partial(work, config, directory, resume=starts.get(directory)) for config, directory in jobs]
    return run_calls(calls, sum(config.clips for config, _ in jobs), "clip", processes, title)


def run_calls(calls: Sequence[Callable[..., T]], total: int, unit: str, processes: int, title: str) -> list[T]:
    """Make all calls in several processes, under one progress bar, and return the results in order. An error ends all.

    In a browser, which can start no process, the calls are made one after the other. Each call gets the argument
    `show`, a function to be called with the progress so far: (new units of work, a line of text). total: units of work
    in all calls; unit: the name of one.
    """
    if not calls:
        return []
    if IN_A_BROWSER:
        tqdm.monitor_interval = 0  # tqdm would warn that it can start no thread
    with tqdm(total=total, unit=unit, desc=title, dynamic_ncols=True, disable=None) as bar:

        def show(done: int, line: str) -> None:
            bar.update(done)
            bar.set_postfix_str(line)

        if len(calls) == 1 or processes == 1 or IN_A_BROWSER:
            return [call(show=show) for call in calls]
        return _side_by_side(calls, processes, show)


def resume_several(jobs: list[Job], processes: int, directory: Path) -> list[Result]:
    """Resume the runs that have not finished, each from its newest checkpoint, or from scratch if it has none."""
    finished: dict[Path, Result] = {}
    starts: dict[Path, Path] = {}
    for config, folder in jobs:
        if not folder.exists():
            continue
        if not is_of(config, folder):
            raise InputError(f"{folder} exists already, with other settings: choose another --name, or remove it")
        if (result := finished_result(folder)) is not None:
            finished[folder] = result
        elif listed(folder):
            starts[folder] = find(folder)
        else:
            shutil.rmtree(folder)  # the run was stopped before its first checkpoint
    missing = [job for job in jobs if job[1] not in finished]
    if missing:
        results = train_many(missing, processes, directory.name, starts=starts)
        finished |= {folder: result for (_, folder), result in zip(missing, results, strict=True)}
    return [finished[folder] for _, folder in jobs]


def is_of(config: Config, folder: Path) -> bool:
    """True if a folder holds a run with these settings."""
    return is_run(folder) and bool(_tables(folder / "config.json") == config.to_tables())


def finished_result(folder: Path) -> Result | None:
    """The result of the run in a folder, wherever that was written; None if the run has not come to its end."""
    path = folder / "results.json"
    return replace(read_result(path), directory=str(folder)) if path.exists() else None


def _tables(path: Path) -> Any:
    """Read config.json. Raises `InputError` if it cannot be read."""
    try:
        return json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({error}): remove {path.parent} to begin this run anew") from None


def _side_by_side(calls: Sequence[Callable[..., T]], processes: int, show: ShowProgress) -> list[T]:
    context = get_context("spawn")
    lines = context.Queue()
    with (
        _interrupted_by_sigterm(),
        ProcessPoolExecutor(processes, context, initializer=_start_worker, initargs=(lines,)) as executor,
    ):
        others = set(active_children())
        futures: list[Future[T]] = [executor.submit(_run_in_worker, call) for call in calls]
        workers = set(active_children()) - others
        try:
            while not all(future.done() for future in futures) or not lines.empty():
                with contextlib.suppress(Empty):
                    show(*lines.get(timeout=0.2))
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
    """Begin no further run, and let the runs under way write their checkpoints. A second Ctrl-C ends them at once."""
    begun = [future for future in futures if not future.cancel()]  # waiting for a cancelled one would never end
    executor.shutdown(wait=False)
    for worker in workers:
        worker.terminate()  # `RunLog` takes SIGTERM as a request to stop
    try:
        wait(begun, timeout=60)
    finally:
        for worker in workers:
            worker.kill()


@contextlib.contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Treat SIGTERM like Ctrl-C: the runs must not go on without the process that started them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler_before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler_before)


# In the worker processes ----------------------------------------------------------------------------------------------

PR_SET_PDEATHSIG = 1  # Linux: the signal that a child gets when its parent dies


class _Worker:
    """The state of a worker process."""

    lines: Any = None  # the queue of progress, which the parent reads
    stop_asked = False  # True: no further run is begun


def _start_worker(lines: Any) -> None:
    """Run in a process group of its own, so that only the parent receives Ctrl-C and can stop the runs one by one.

    If the parent is killed, the kernel kills this process too.
    """
    _Worker.lines = lines
    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, _on_sigterm)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _on_sigterm(number: int, frame: Any) -> None:
    """Remember a request to stop that arrives before the run has set its own handler."""
    _Worker.stop_asked = True


def _run_in_worker(call: Callable[..., T]) -> T:
    if _Worker.stop_asked:
        raise Interrupted
    try:
        return call(show=_show)
    except KeyboardInterrupt:
        _Worker.stop_asked = True
        raise


def _show(clips: int, line: str) -> None:
    _Worker.lines.put((clips, line))
    if _Worker.stop_asked and clips:
        if signal.getsignal(signal.SIGTERM) is _on_sigterm:
            raise KeyboardInterrupt  # this work has no checkpoint to write
        os.kill(os.getpid(), signal.SIGTERM)  # the run's own handler is set by its first clip
