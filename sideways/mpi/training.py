"""The job of one rank: set up, train, bring the results together, end. An error in any rank ends all ranks."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from mpi4py import MPI
from tqdm import tqdm

from sideways.data.task import Frames
from sideways.errors import DivergedError, InputError, Interrupted
from sideways.mpi.gather import RefusedError, gather_parameters, on_all_ranks
from sideways.mpi.live import relayed
from sideways.mpi.log import RankLog
from sideways.mpi.mailbox import wait
from sideways.mpi.node import ALL
from sideways.mpi.options import config_of_ranks, parse
from sideways.mpi.ranks import Ranks, from_rank_0
from sideways.mpi.setup import Rank, set_up
from sideways.mpi.status import STATUS, Waiting, doing
from sideways.mpi.world import RANK, WORLD
from sideways.rules.diagnostics import cosines
from sideways.training.build import make_rule
from sideways.training.checkpoint import Checkpoints
from sideways.training.config import Config
from sideways.training.evaluation import Scores, merged
from sideways.training.log import RunLog
from sideways.training.loop import Trainer
from sideways.training.options import run_directory
from sideways.training.progress import Progress
from sideways.training.report.result import in_words
from sideways.training.run import create_directory, finish, session


class RankTrainer(Trainer):
    """A rank's part of a run: the same loop, but the cosines need the parameters of all ranks."""

    def __init__(self, ranks: Ranks, *run: Any):
        super().__init__(*run)
        self.ranks = ranks

    def cosines(self, frames: Frames, targets: Frames) -> dict[str, float] | None:
        """Compute the cosines on rank 0, with all parameters and the whole clip, as in one process; None elsewhere."""
        with doing("comparing gradients", "training"):
            return self._cosines()

    def _cosines(self) -> dict[str, float] | None:
        gather_parameters(self.rule.network, self.ranks, set(self.rule.owned))
        if RANK:
            return None
        clip = self.source.task.clip("train", self.progress.clip, self.config.batch)
        return cosines(make_rule(self.config, self.rule.network), clip.frames, clip.targets)

    def evaluate(self) -> Scores | None:
        with doing("evaluation", "training"):
            return super().evaluate()

    def save(self) -> Path:
        with doing("checkpoint", "training"):
            return super().save()

    def _between_ticks(self) -> None:
        STATUS.tick(self.rule.ticks)
        super()._between_ticks()


class Job:
    """The job of this rank, from the command line to the exit code."""

    def __init__(self) -> None:
        self.rank: Rank | None = None  # once it is set up; an error report then says which unit was running

    def run(self) -> int:
        """Run this rank. An error in any rank ends all ranks, and the message says where the error was."""
        try:
            return self._train(parse())
        except RefusedError as refusal:
            _finalize()  # else the launcher ends the others as soon as one has ended, and may report its own signal
            return refusal.code
        except (DivergedError, InputError) as error:  # such as the `InputError` of an unplugged camera
            if self.rank:
                time.sleep(0.3 * self.rank.ranks.replica)  # all replicas raise the same error: the first prints it
            end_all(f"sideways: {error}")
        except KeyboardInterrupt:  # before the training; during it, a `RankLog` records Ctrl-C as a request to stop
            if RANK == 0:
                print("sideways: interrupted", file=sys.stderr, flush=True)
            end_all("", code=130)
        except BaseException as error:
            where = self._where()
            if isinstance(error, MPI.Exception) and self.rank and self.rank.ranks.ended_here():
                end_all("")  # a message could not travel because a rank has ended, and its own watchdog says so
            end_all(f"sideways: {where}:\n{traceback.format_exc()}")
        return 1

    def _where(self) -> str:
        where = f"rank {RANK} on {MPI.Get_processor_name()}"
        if self.rank:
            where += f", unit {self.rank.rule.running}, tick {self.rank.rule.ticks}"
            time.sleep(0.2)  # the launcher may need a moment to see that a process has ended
            where += "".join(f"; {other} is gone" for other in self.rank.ranks.ended_here())
        return where

    def _train(self, options: argparse.Namespace) -> int:
        with contextlib.ExitStack() as stack:
            config = on_all_ranks(lambda: config_of_ranks(options))
            on_all_ranks(lambda: stack.enter_context(session(config)))
            rank = set_up(options, config)
            source = rank.source
            stack.enter_context(contextlib.closing(source.task))
            stack.enter_context(source)
            directory = on_all_ranks(lambda: from_rank_0(WORLD, lambda: run_directory(options)))
            # Rank 0 opens a live stream, and passes its frames on.
            on_all_ranks(lambda: None if source.task.live and RANK else source.open())
            checkpoints = Checkpoints(directory, config, source, rank.ranks)
            progress = Progress()
            if options.resume is not None:
                progress = on_all_ranks(lambda: checkpoints.load(options.resume, rank.rule, source.part))
            else:
                on_all_ranks(lambda: from_rank_0(WORLD, lambda: create_directory(directory, config)))
            self.rank = rank
            bar = _progress_bar(config, directory)

            def show(clips: int, line: str) -> None:
                bar.update(clips)
                bar.set_postfix_str(line)

            STATUS.activity("training")
            run_log = stack.enter_context(RunLog(directory, show, progress)) if RANK == 0 else None
            log = RankLog(WORLD, rank.ranks.stages, rank.ranks.replicas, run_log)
            trainer = RankTrainer(rank.ranks, rank.rule, source, config, log, checkpoints, progress)
            return _run_and_finish(trainer, rank, log, bar)


def _run_and_finish(trainer: RankTrainer, rank: Rank, log: RankLog, bar: tqdm) -> int:
    """Run the loop, and write the results on rank 0. Returns the exit code."""
    try:
        with relayed(WORLD, trainer.source):
            scores = trainer.run()
    except Interrupted as stopped:
        _end_messages(rank, log)
        bar.close()
        if RANK == 0:
            print(f"sideways: {stopped}", file=sys.stderr, flush=True)
        with ALL:
            WORLD.Barrier()  # the launcher ends all ranks as soon as one ends with this code
        _finalize()
        return 130
    _end_messages(rank, log)
    bar.close()
    gather_parameters(trainer.rule.network, rank.ranks, set(trainer.rule.owned))
    with ALL:
        trainer.progress.seconds = WORLD.allreduce(trainer.progress.seconds, MPI.MAX)  # of the slowest rank
        if trainer.waiting is not None:
            trainer.waiting = WORLD.allreduce(trainer.waiting, MPI.MAX)
        parts = WORLD.gather((scores, trainer.source.skipped))  # pickled, once at the end
    if parts is not None:
        print(_finish_on_rank_0(trainer, parts))
    _finalize()
    return 0


def _finalize() -> None:
    place = Waiting("all ranks to end")
    wait(WORLD.Ibarrier(), nap=True, place=place)  # rank 0 may need the cores to write the results
    with place:
        MPI.Finalize()


def _finish_on_rank_0(trainer: Trainer, parts: list[tuple[Scores | None, dict[str, str]]]) -> str:
    scores = merged([scores for scores, _ in parts if scores])
    skipped = {path: reason for _, paths in parts for path, reason in paths.items()}
    result = finish(trainer, scores, skipped, None)
    return f"{in_words(result)}\nwritten to {trainer.checkpoints.directory}"


def _end_messages(rank: Rank, log: RankLog) -> None:
    """Complete every message under way, and free the requests. Every rank must call this function."""
    log.close()
    rank.mailbox.clear()
    rank.mailbox.free()


def _progress_bar(config: Config, directory: Path) -> tqdm:
    disable = None if RANK == 0 else True  # None: no bar if the output is no terminal
    return tqdm(total=config.clips, unit="clip", desc=directory.name, dynamic_ncols=True, disable=disable)


def end_all(reason: str, code: int = 1) -> None:
    """Print the reason, and end every rank."""
    if reason:
        print(reason, file=sys.stderr, flush=True)
    time.sleep(0.5)  # without a pause the launcher may end before it has passed the line on
    WORLD.Abort(code)
