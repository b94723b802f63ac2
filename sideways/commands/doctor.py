"""`sideways doctor`: what this machine has, and what is missing; with `--mpi`, what several hosts have together."""

from __future__ import annotations

import argparse
import sys

from sideways.doctor import doctor
from sideways.errors import InputError
from sideways.validation import above_zero, positive

HELP = "show what this machine has, and which backend will therefore be used; --gpu, --mpi: check more"
SITE_OPTIONS = ("hosts", "ranks", "runs", "limit")


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options of the check of a site."""
    parser.description = (
        "Show what this machine has, and which backend will therefore be used. With --gpu: first contact with a GPU, "
        "step by step: its libraries, each operation and each layer beside NumPy, ticks, the time of one, two ranks. "
        "With --mpi: check a site before a long run, by small jobs under mpirun (under Slurm: srun), each with a time "
        "limit. Do processes start on all hosts, are versions equal, do messages arrive and how fast, which GPUs are "
        "there, do heartbeats pass? The exit code is 1 if a run would fail."
    )
    parser.epilog = "Examples: sideways doctor; sideways doctor --mpi --ranks 3; sideways doctor --mpi --hosts a,b"
    parser.add_argument("--gpu", action="store_true", help="first contact with a GPU: from its libraries to two ranks")
    parser.add_argument("--mpi", action="store_true", help="check the hosts, their MPI and their network")
    parser.add_argument("--hosts", metavar="A,B", help="the hosts, by ssh (default: this machine, or Slurm's choice)")
    parser.add_argument("--ranks", type=positive, help="processes of each job (default: one for each host, at least 2)")
    parser.add_argument("--runs", metavar="DIR", help="the folder of all run directories (default: runs)")
    parser.add_argument("--limit", type=above_zero, metavar="SECONDS", help="for each job (default: 60)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print the table, or make one of the checks; exit code 1 if a run would fail."""
    given = {name: getattr(options, name) for name in SITE_OPTIONS if getattr(options, name) is not None}
    if not options.mpi and given:
        raise InputError(f"--{next(iter(given))} goes with --mpi")
    if options.gpu and options.mpi:
        raise InputError("--gpu and --mpi are two checks: make one after the other")
    if options.gpu:
        from sideways.studies.first_contact import first_contact

        sys.exit(first_contact())
    if not options.mpi:
        sys.exit(doctor())
    from sideways.studies.site import check_site, site_of

    hosts, ranks = given.pop("hosts", None), given.pop("ranks", None)
    sys.exit(check_site(site_of(hosts, ranks, **given)))
