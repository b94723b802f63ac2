"""`sideways claims`: the papers' claims, each checked by an experiment."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from sideways.errors import InputError
from sideways.tables import listed

HELP = "check the papers' claims, each by an experiment with a verdict"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the claims to check, and the effort to spend."""
    parser.description = (
        "Check claims, each by an experiment that ends with a verdict: holds, holds in part, does not hold here. "
        "Without a name the claims are listed, with the verdict and the minutes of their last check in this folder."
    )
    parser.epilog = (
        "Examples: sideways claims temporal stable; sideways claims all --resume; "
        "sideways claims recognition --data folder:films"
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="claims to check, or 'all'; without a name they are listed"
    )
    effort = parser.add_mutually_exclusive_group()
    effort.add_argument("--quick", dest="effort", action="store_const", const="quick", help="few seeds, short runs")
    effort.add_argument(
        "--full", dest="effort", action="store_const", const="full", help="thorough: hours, or days with --data"
    )
    parser.add_argument(
        "--seeds", type=int, metavar="N", help="seeds of each run (default: each experiment's own number)"
    )
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, help="runs at a time (default: one for each core)"
    )
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="KIND:PATH",
        help="a real data set, for the claim 'recognition'; may be repeated",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="keep the findings of this command, and the finished runs of a stopped one",
    )
    parser.add_argument("--out", metavar="DIR", help="the folder to write (default: runs/claims)")
    parser.set_defaults(run=run, effort="normal")


def run(options: argparse.Namespace) -> None:
    """List the claims, or check some: exit code 1 if an experiment could not be run."""
    from sideways.studies.claims.check import CLAIMS, DIRECTORY, check_claims
    from sideways.studies.claims.report import last_verdict
    from sideways.studies.claims.verdict import NOT_RUN

    if not options.names and options.effort == "normal":
        directory = DIRECTORY if options.out is None else Path(options.out)
        lines = {
            name: f"{claim.words} ({claim.source}){last_verdict(directory / name)}" for name, claim in CLAIMS.items()
        }
        print(listed(lines))
        print("\nsideways claims NAME… checks the claims named; sideways claims all, --quick or --full checks all")
        return
    if options.processes < 1 or (options.seeds is not None and options.seeds < 1):
        raise InputError("--seeds and --processes must be at least 1")
    names = [] if options.names == ["all"] else options.names
    directory = DIRECTORY if options.out is None else Path(options.out)
    findings = check_claims(
        names, directory, options.effort, options.seeds, options.processes, options.data, options.resume
    )
    if any(finding.verdict.word == NOT_RUN for finding in findings.values()):
        raise SystemExit(1)
