"""`mpirun -n K python -m mpi RECIPE …`: what `sideways train RECIPE …` does, with the units spread over K ranks."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import TypeVar

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported: bit-identical, and a core per rank

from mpi.watchdog import guard

if __name__ == "__main__":
    guard()  # before MPI starts: from here on this is the child

import mpi4py
import numpy

mpi4py.rc.finalize = False  # after an error MPI_Finalize would wait for ranks that never come

from mpi4py import MPI  # noqa: E402
from tqdm import tqdm  # noqa: E402

from mpi.emulated import emulate  # noqa: E402
from mpi.live import relayed  # noqa: E402
from mpi.log import RankJournal  # noqa: E402
from mpi.mailbox import MPIMailbox  # noqa: E402
from mpi.placement import place  # noqa: E402
from mpi.ranks import Ranks, check_same, part_of_batch, table  # noqa: E402
from mpi.replicas import ReplicatedSideways  # noqa: E402
from sideways.backend import to_device, to_host  # noqa: E402
from sideways.data import LiveStream, Source  # noqa: E402
from sideways.data.task import Frames  # noqa: E402
from sideways.errors import DivergedError, InputError, Interrupted  # noqa: E402
from sideways.machine import cuda_aware  # noqa: E402
from sideways.network import FRAME, Network  # noqa: E402
from sideways.rules import Sideways  # noqa: E402
from sideways.rules.diagnostics import cosines  # noqa: E402
from sideways.training.build import build_network, build_rule, build_task  # noqa: E402
from sideways.training.checkpoint import PER_SAMPLE, Checkpoints, Progress  # noqa: E402
from sideways.training.config import Config  # noqa: E402
from sideways.training.evaluation import merged  # noqa: E402
from sideways.training.log import Journal  # noqa: E402
from sideways.training.loop import learn  # noqa: E402
from sideways.training.options import Parser, add_run_options, config_of, run_directory  # noqa: E402
from sideways.training.report.result import in_words  # noqa: E402
from sideways.training.run import create_directory, finish, limits, session  # noqa: E402

T = TypeVar("T")
WORLD = MPI.COMM_WORLD
RANK = WORLD.Get_rank()


def main() -> int:
    """Run this rank; an error in any rank ends them all, with a word on where it was."""
    options = _parse()
    built: list[tuple[Sideways, Ranks]] = []  # once they are there: for the report of an error
    try:
        return _run(options, built)
    except (DivergedError, InputError) as error:  # a camera may be unplugged
        if built:
            time.sleep(0.3 * built[0][1].replica)  # all replicas find the same: the first one says it
        end_all(f"sideways: {error}")
    except KeyboardInterrupt:  # before the training: from then on a `RankJournal` takes it as the wish to stop
        if RANK == 0:
            print("sideways: interrupted", file=sys.stderr, flush=True)
        time.sleep(0.5)  # as below
        WORLD.Abort(130)
    except BaseException:
        where = f"rank {RANK} on {MPI.Get_processor_name()}"
        if built:
            rule, ranks = built[0]
            where += f", unit {rule.running}, tick {rule.ticks}"
            time.sleep(0.2)  # the launcher may need a moment to see that a process has ended
            where += "".join(f"; {other} is gone" for other in ranks.gone())
        end_all(f"sideways: {where}:\n{traceback.format_exc()}")
    return 1


def end_all(why: str) -> None:
    """Say why, and end every rank."""
    print(why, file=sys.stderr, flush=True)
    time.sleep(0.5)  # the launcher passes it on, or else may end before it has
    WORLD.Abort(1)


def _parse() -> argparse.Namespace:
    parser = Parser(
        prog="mpirun -n K python -m mpi",
        description="Train as `sideways train` does, with the network's units spread over K ranks (or K = R · stages).",
        epilog="Example: mpirun -n 2 python -m mpi pan-skip --clips 100",
    )
    add_run_options(parser)
    parser.add_argument("--replicas", type=int, default=1, help="copies of the network, each on a part of every batch")
    parser.add_argument(
        "--placement",
        default="measure",
        help="measure (default), estimate (multiply-adds), or by hand, such as 0-2,3-7",
    )
    parser.add_argument(
        "--transport",
        default="auto",
        choices=("auto", "host", "cuda-aware"),
        help="how GPU arrays travel: pinned host buffers, or a CUDA-aware MPI itself; auto: that, if it says it is one",
    )
    parser.add_argument(
        "--emulate-ms", type=float, default=0.0, help="emulate devices: each unit takes this long per tick, idle"
    )
    with contextlib.nullcontext() if RANK == 0 else contextlib.redirect_stderr(io.StringIO()):  # one rank complains
        try:
            return parser.parse_args()
        except SystemExit:
            time.sleep(0.5 if RANK else 0.0)  # the launcher ends all ranks as soon as one has ended with an error
            raise


class RefusedError(Exception):
    """Bad input; the rank that found it has said what."""


def together(step: Callable[[], T]) -> T:
    """Take a step on every rank; where it is refused on some, the first of them says why, and it ends on all.

    A rank that refuses alone would leave the others waiting in the next collective call.
    """
    error: InputError | OSError | None = None
    try:
        result = step()
    except (InputError, OSError) as found:
        error = found
    first = WORLD.allreduce(RANK if error else WORLD.Get_size(), MPI.MIN)
    if first == RANK:
        print(f"sideways: {error}", file=sys.stderr, flush=True)
    if first < WORLD.Get_size():
        raise RefusedError
    return result


def _run(options: argparse.Namespace, built: list[tuple[Sideways, Ranks]]) -> int:
    with contextlib.ExitStack() as stack:
        try:
            config = together(lambda: _config(options))
            together(lambda: stack.enter_context(session(config)))
            ranks, rule, source, mailbox = _set_up(options, config)
            stack.enter_context(contextlib.closing(source.task))
            stack.enter_context(source)
            directory = together(lambda: run_directory(options))
            alone = isinstance(source.task, LiveStream)  # rank 0 opens it, and passes its frames on
            together(lambda: None if alone and RANK else source.open())
            shared = Shared(ranks)
            checkpoints = Checkpoints(directory, config, source, RANK == 0, WORLD.Barrier, shared.whole, gathered)
            position = Progress()
            if options.resume is not None:
                position = together(lambda: checkpoints.load(options.resume, rule, source.part))
            else:
                together(lambda: create_directory(directory, config) if RANK == 0 else None)
        except RefusedError:
            MPI.Finalize()
            return 2
        built.append((rule, ranks))
        return _train(stack, config, ranks, rule, source, mailbox, checkpoints, position)


def _config(options: argparse.Namespace) -> Config:
    """The config, or `InputError`."""
    if options.split == "all":
        raise InputError(
            "over several ranks run the splits one by one (--split 1 --name splits-1, …), then sideways compare them"
        )
    config = config_of(options)
    if config.rule != "sideways":
        raise InputError(f"only rule 'sideways' runs over several ranks, not {config.rule!r}; sideways train runs it")
    if config.cosine_every and config.task == "stream":
        raise InputError("--cosine-every needs a clip twice; over several ranks a live stream passes but once")
    if not 0 <= options.emulate_ms < float("inf"):
        raise InputError(f"--emulate-ms must be a time in milliseconds, not {options.emulate_ms}")
    return config


def _train(
    stack: contextlib.ExitStack,
    config: Config,
    ranks: Ranks,
    rule: Sideways,
    source: Source,
    mailbox: MPIMailbox,
    checkpoints: Checkpoints,
    position: Progress,
) -> int:
    """The loop, and what comes after it; the exit code."""
    directory, network = checkpoints.folder.parent, rule.network
    bar = tqdm(
        total=config.clips, unit="clip", desc=directory.name, dynamic_ncols=True, disable=None if RANK == 0 else True
    )

    def progress(clips: int, line: str) -> None:
        bar.update(clips)
        bar.set_postfix_str(line)

    written = stack.enter_context(Journal(directory, progress, position)) if RANK == 0 else None
    journal = RankJournal(WORLD, ranks.stages, ranks.replicas, written)

    def measured(rule: Sideways, frames: Frames, targets: Frames) -> dict[str, float] | None:
        """Rank 0 compares, with all parameters and the whole clip at hand."""
        gather_parameters(network, ranks, set(rule.owned))
        if RANK:
            return None
        clip = source.task.clip("train", position.clip, config.batch)
        return cosines(rule, clip.frames, clip.targets)

    try:
        with relayed(WORLD, source):
            mine = learn(rule, source, config, journal, checkpoints, position, measured)  # type: ignore[arg-type]
    except Interrupted as stopped:
        journal.close()
        mailbox.clear()
        mailbox.free()
        bar.close()
        if RANK == 0:
            print(f"sideways: {stopped}", file=sys.stderr, flush=True)
        WORLD.Barrier()  # the launcher ends all ranks as soon as one ends with this code
        MPI.Finalize()
        return 130
    journal.close()
    mailbox.clear()
    mailbox.free()
    bar.close()
    gather_parameters(network, ranks, set(rule.owned))
    slowest = WORLD.allreduce(position.seconds, MPI.MAX)
    told = WORLD.gather((mine, source.skipped))  # once, at the end: here something may be pickled
    if told is not None:
        scores = merged([scores for scores, _ in told if scores])
        skipped = {path: why for _, paths in told for path, why in paths.items()}
        result = finish(config, source.task, network, directory, scores, slowest, config.clips, None, skipped)
        print(f"{in_words(result)}\nwritten to {directory}")
    MPI.Finalize()
    return 0


def _set_up(options: argparse.Namespace, config: Config) -> tuple[Ranks, Sideways, Source, MPIMailbox]:
    """Everything a rank needs to train; prints the table. Collective."""
    together(lambda: check_same(WORLD, vars(options) | config.to_tables()))
    task = together(lambda: build_task(config))
    network = together(lambda: build_network(config, task.frame_shape, len(task.classes)))
    ranks = together(lambda: Ranks.split(WORLD, len(network.units), options.replicas))
    batch = together(lambda: part_of_batch(config.batch, ranks.replicas))
    device = together(ranks.take_device)
    if options.emulate_ms:
        emulate(network, options.emulate_ms)
    groups, costs = together(lambda: place(network, ranks, batch, options.placement))
    owner = {name: stage for stage, group in enumerate(groups) for name in group}
    mine = groups[ranks.stage]
    in_place = together(lambda: _in_place(config, options.transport))
    mailbox = MPIMailbox(network, owner, batch, ranks.pipeline.Dup(), ranks.pipeline.Dup(), in_place, ranks.crowded)
    more = {"mailbox": mailbox, "units": mine, "first_sample": ranks.replica * batch}
    kind: type[Sideways] = Sideways
    if ranks.replicas > 1:
        kind, more["peers"] = ReplicatedSideways, ranks.peers.Dup()
    rule = together(lambda: build_rule(config, task, network, {"sideways": kind}, **more))
    source = together(
        lambda: Source(
            task,
            config.batch,
            frames=any(FRAME in network.units[name].inputs for name in mine),
            targets=network.top.name in mine,
            part=slice(ranks.replica * batch, (ranks.replica + 1) * batch),
            workers=config.workers,
            limits=limits(config, task),
            anywhere=anywhere,
        )
    )
    text = table(ranks, network, groups, costs, device)
    if text:
        print(text, flush=True)
        if config.backend != "numpy":
            print(f"GPU arrays travel {'as they are' if in_place else 'through pinned host buffers'}", flush=True)
        if options.emulate_ms:
            print(f"compute is emulated: each unit takes {options.emulate_ms:g} ms per tick, spent idle", flush=True)
    return ranks, rule, source, mailbox


def _in_place(config: Config, transport: str) -> bool:
    """Whether MPI gets arrays where they are, on the device too; else those of the device pass pinned host memory."""
    if config.backend == "numpy":
        if transport == "cuda-aware":
            raise InputError("--transport cuda-aware hands GPU arrays to MPI: it goes with --backend cupy")
        return True
    able, why = cuda_aware()
    if transport == "cuda-aware" and able is False:
        raise InputError(f"--transport cuda-aware: this MPI is not ({why}); leave it out, or choose host")
    return transport == "cuda-aware" or (transport == "auto" and WORLD.allreduce(bool(able), MPI.LAND))


def anywhere(flags: numpy.ndarray) -> numpy.ndarray:
    """Those that hold on some rank."""
    WORLD.Allreduce(MPI.IN_PLACE, flags, MPI.LOR)
    return flags


def gathered(found: dict[str, str]) -> dict[str, str]:
    """What all ranks have found: at a checkpoint, when something may be pickled."""
    return {path: why for part in WORLD.allgather(found) for path, why in part.items()}


class Shared:
    """What replicas hold in parts, brought together for a checkpoint."""

    def __init__(self, ranks: Ranks):
        self.peers = ranks.peers

    def whole(self, key: str, array: numpy.ndarray) -> numpy.ndarray | None:
        """Samples of all replicas one after the other, the mean of their losses; None but in the first replica."""
        if self.peers.Get_size() == 1:
            return array
        first = self.peers.Get_rank() == 0
        if key.startswith(PER_SAMPLE):
            parts = self.peers.gather(array)
            return numpy.concatenate(parts) if parts is not None else None
        if key.startswith("loss."):
            array = numpy.array(array)
            self.peers.Allreduce(MPI.IN_PLACE, array)
            array /= self.peers.Get_size()
        return array if first else None


def gather_parameters(network: Network, ranks: Ranks, mine: set[str]) -> None:
    """Bring every unit's parameters and running statistics to rank 0."""
    comm = ranks.pipeline
    for number, (name, unit) in enumerate(network.units.items()):
        owner = comm.allreduce(comm.Get_rank() if name in mine else 0, MPI.MAX)
        for array in (unit.parameters | unit.state).values():
            values = to_host(array).copy()
            if comm.Get_rank() == owner != 0:
                comm.Send(values, 0, number)
            elif comm.Get_rank() == 0 != owner:
                comm.Recv(values, owner, number)
            array[...] = to_device(values)


if __name__ == "__main__":
    sys.exit(main())
