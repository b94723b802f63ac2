"""The command line of a rank: the options of `sideways train`, and more for several ranks."""

from __future__ import annotations

import argparse
import contextlib
import io
import sys

from sideways.errors import InputError
from sideways.machine import TRANSPORTS
from sideways.mpi.agreement import check_versions
from sideways.mpi.gather import AGREEMENT, RefusedError
from sideways.mpi.launch import check_patience
from sideways.mpi.ranks import check_same, from_rank_0
from sideways.mpi.watchdog import PATIENCE
from sideways.mpi.world import RANK, WORLD
from sideways.training.build import TICKING
from sideways.training.config import Config
from sideways.training.options import add_run_options, config_of
from sideways.validation import Parser


def parse() -> argparse.Namespace:
    """Read the command line. Every rank must call this function.

    Raises `RefusedError` on every rank if an option is wrong for some rank, which then prints the error, and for
    --help, which the first rank prints.
    """
    parser = Parser(
        prog="mpirun -n K sideways train",
        description="Train as in one process, with the units of the network spread over K ranks (or K = R · stages).",
        epilog="Example: mpirun -n 2 sideways train pan-skip --clips 100",
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
        choices=("auto", *TRANSPORTS),
        help="how GPU arrays travel: host (through pinned buffers), cuda-aware (MPI takes them as they are) or nccl "
        "(NCCL takes them, from GPU to GPU); auto (default): cuda-aware where MPI says that it can, else host",
    )
    parser.add_argument(
        "--emulate-ms", type=float, default=0.0, help="emulate devices: each unit takes this long per tick, idle"
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=PATIENCE,
        metavar="SECONDS",
        help=f"end the job when a rank has not been heard of, or no rank makes progress, for so long (default "
        f"{PATIENCE:g})",
    )
    options, code = None, None
    said, complaint = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complaint):
        try:
            options = parser.parse_args()
        except SystemExit as stop:  # a wrong option, or --help
            code = int(stop.code or 0)
    with AGREEMENT:
        codes = WORLD.allgather(code)
    refusals = [(rank, code) for rank, code in enumerate(codes) if code is not None]
    if not refusals:
        assert options is not None
        return options
    if refusals[0][0] == RANK:
        print(said.getvalue(), end="", flush=True)
        print(complaint.getvalue(), end="", file=sys.stderr, flush=True)
    raise RefusedError(max(code for _, code in refusals))


def config_of_ranks(options: argparse.Namespace) -> Config:
    """The config of a run over several ranks. Raises `InputError` for settings that need a single process.

    Rank 0 alone reads recipes and checkpoints: the other hosts need none of these files. Every rank must call this
    function; it sets `options.resume` to the checkpoint to go on from.
    """
    check_versions(WORLD)
    check_same(WORLD, vars(options))
    if options.split == "all":
        raise InputError(
            "over several ranks run the splits one by one (--split 1 --name splits-1, …), then sideways compare them"
        )
    config, options.resume = from_rank_0(WORLD, lambda: (config_of(options), options.resume))
    if config.rule not in TICKING:
        raise InputError(
            f"rules {' and '.join(TICKING)} run over several ranks, not {config.rule!r}; sideways train runs it"
        )
    if config.cuda_graph:
        raise InputError("--cuda-graph holds the units of one process: leave it out under mpirun")
    if config.cosine_every and config.task == "stream":
        raise InputError("--cosine-every needs each clip twice; over several ranks a live stream passes only once")
    if not 0 <= options.emulate_ms < float("inf"):
        raise InputError(f"--emulate-ms must be a time in milliseconds, not {options.emulate_ms}")
    try:
        check_patience(options.patience)
    except ValueError:
        raise InputError(f"--patience must be at least 1 second, not {options.patience:g}") from None
    return config
