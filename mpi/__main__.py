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
from pathlib import Path
from typing import TypeVar

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported: bit-identical, and a core per rank

from mpi.guard import guard

if __name__ == "__main__":
    guard()  # before MPI starts: from here on this is the child

import mpi4py

mpi4py.rc.finalize = False  # after an error MPI_Finalize would wait for ranks that never come

from mpi4py import MPI  # noqa: E402
from tqdm import tqdm  # noqa: E402

from mpi.emulation import emulate  # noqa: E402
from mpi.journal import Interrupted, RankJournal  # noqa: E402
from mpi.ranks import Ranks, check_same, part_of_batch, place, table  # noqa: E402
from mpi.rule import ReplicatedSideways  # noqa: E402
from mpi.transport import MPIMailbox  # noqa: E402
from sideways.backend import to_device, to_host  # noqa: E402
from sideways.cli import in_words  # noqa: E402
from sideways.config import Config, build_network, build_rule, build_task  # noqa: E402
from sideways.errors import DivergedError, InputError  # noqa: E402
from sideways.network import FRAME, Network  # noqa: E402
from sideways.options import add_run_options, config_of, run_directory  # noqa: E402
from sideways.rules import Sideways  # noqa: E402
from sideways.training import Journal, Source, create_directory, finish, learn, save_parameters, session  # noqa: E402

T = TypeVar("T")
WORLD = MPI.COMM_WORLD
RANK = WORLD.Get_rank()


def main() -> int:
    """Run this rank; an error in any rank ends them all, with a word on where it was."""
    options = _parse()
    built: list[tuple[Sideways, Ranks]] = []  # once they are there: for the report of an error
    try:
        return _run(options, built)
    except DivergedError as error:
        print(f"sideways: {error}", file=sys.stderr, flush=True)
        WORLD.Abort(1)
    except BaseException:
        where = f"rank {RANK} on {MPI.Get_processor_name()}"
        if built:
            rule, ranks = built[0]
            where += f", unit {rule.running}, tick {rule.ticks}"
            time.sleep(0.2)  # the launcher may need a moment to see that a process has ended
            where += "".join(f"; {other} is gone" for other in ranks.gone())
        print(f"sideways: {where}:\n{traceback.format_exc()}", file=sys.stderr, flush=True)
        WORLD.Abort(1)
    return 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
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
        help="how GPU arrays travel: through pinned host buffers (auto, host), or handed to a CUDA-aware MPI",
    )
    parser.add_argument(
        "--emulate-ms", type=float, default=0.0, help="emulate devices: each unit takes this long per tick, idle"
    )
    with contextlib.nullcontext() if RANK == 0 else contextlib.redirect_stderr(io.StringIO()):  # one rank complains
        return parser.parse_args()


class RefusedError(Exception):
    """Bad input; the rank that found it has said what."""


def together(step: Callable[[], T]) -> T:
    """Take a step on every rank; where it is refused on some, the first of them says why, and it ends on all.

    A rank that refuses alone would leave the others waiting in the next collective call.
    """
    error: InputError | None = None
    try:
        result = step()
    except InputError as found:
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
            ranks, network, rule, source, mailbox = _set_up(options, config)
            directory = together(lambda: run_directory(options))
            together(source.task.open if source.frames else lambda: None)
            together(lambda: create_directory(directory, config) if RANK == 0 else None)
        except RefusedError:
            MPI.Finalize()
            return 2
        built.append((rule, ranks))
        return _train(stack, config, ranks, network, rule, source, mailbox, directory)


def _config(options: argparse.Namespace) -> Config:
    """The config, or `InputError`."""
    config = config_of(options)
    if config.rule != "sideways":
        raise InputError(f"only rule 'sideways' runs over several ranks, not {config.rule!r}; sideways train runs it")
    if not options.emulate_ms >= 0:
        raise InputError(f"--emulate-ms must not be negative: {options.emulate_ms}")
    return config


def _train(
    stack: contextlib.ExitStack,
    config: Config,
    ranks: Ranks,
    network: Network,
    rule: Sideways,
    source: Source,
    mailbox: MPIMailbox,
    directory: Path,
) -> int:
    """The loop, and what comes after it; the exit code."""
    bar = tqdm(
        total=config.clips, unit="clip", desc=directory.name, dynamic_ncols=True, disable=None if RANK == 0 else True
    )

    def progress(clips: int, line: str) -> None:
        bar.update(clips)
        bar.set_postfix_str(line)

    written = stack.enter_context(Journal(directory, progress)) if RANK == 0 else None
    journal = RankJournal(WORLD, ranks.replicas, written)
    code, seconds = 0, 0.0
    try:
        _, seconds = learn(rule, source, config, journal)  # type: ignore[arg-type]
    except Interrupted:
        code = 130
    journal.close()
    mailbox.clear()
    mailbox.free()
    bar.close()
    gather_parameters(network, ranks, {unit.name for unit in rule.units})
    slowest = WORLD.allreduce(seconds, MPI.MAX)
    if RANK == 0 and code == 130:
        save_parameters(network, directory / "parameters.npz")
        print(f"sideways: interrupted; parameters so far in {directory}", file=sys.stderr)
    elif RANK == 0:
        result = finish(config, source.task, network, directory, journal.last, slowest, None)
        print(f"{in_words(result)}\nwritten to {directory}")
    MPI.Finalize()
    return code


def _set_up(options: argparse.Namespace, config: Config) -> tuple[Ranks, Network, Sideways, Source, MPIMailbox]:
    """Everything a rank needs to train; prints the table. Collective."""
    together(lambda: check_same(WORLD, vars(options) | config.to_tables()))
    task = together(lambda: build_task(config))
    network = together(lambda: build_network(config, task))
    ranks = together(lambda: Ranks.split(WORLD, len(network.units), options.replicas))
    batch = together(lambda: part_of_batch(config.batch, ranks.replicas))
    device = together(ranks.take_device)
    if options.emulate_ms:
        emulate(network, options.emulate_ms)
    groups, costs = together(lambda: place(network, ranks, batch, options.placement))
    owner = {name: stage for stage, group in enumerate(groups) for name in group}
    mine = groups[ranks.stage]
    in_place = config.backend == "numpy" or options.transport == "cuda-aware"
    mailbox = MPIMailbox(network, owner, batch, ranks.pipeline.Dup(), ranks.pipeline.Dup(), in_place, ranks.crowded)
    more = {"mailbox": mailbox, "units": mine, "first_sample": ranks.replica * batch}
    kind: type[Sideways] = Sideways
    if ranks.replicas > 1:
        kind, more["peers"] = ReplicatedSideways, ranks.peers.Dup()
    rule = together(lambda: build_rule(config, task, network, {"sideways": kind}, **more))
    source = Source(
        task,
        config.batch,
        frames=any(FRAME in network.units[name].inputs for name in mine),
        targets=network.top.name in mine,
        part=slice(ranks.replica * batch, (ranks.replica + 1) * batch),
    )
    text = table(ranks, network, groups, costs, device)
    if text:
        print(text, flush=True)
        if options.emulate_ms:
            print(f"compute is emulated: each unit takes {options.emulate_ms:g} ms per tick, spent idle", flush=True)
    return ranks, network, rule, source, mailbox


def gather_parameters(network: Network, ranks: Ranks, mine: set[str]) -> None:
    """Bring every unit's parameters and running statistics to rank 0; the statistics are averaged over replicas."""
    comm = ranks.pipeline
    for number, (name, unit) in enumerate(network.units.items()):
        owner = comm.allreduce(comm.Get_rank() if name in mine else 0, MPI.MAX)
        for key, array in (unit.parameters | unit.state).items():
            values = to_host(array).copy()
            if key in unit.state and name in mine:
                ranks.peers.Allreduce(MPI.IN_PLACE, values)
                values /= ranks.replicas
            if comm.Get_rank() == owner != 0:
                comm.Send(values, 0, number)
            elif comm.Get_rank() == 0 != owner:
                comm.Recv(values, owner, number)
            array[...] = to_device(values)


if __name__ == "__main__":
    sys.exit(main())
