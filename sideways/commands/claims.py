"""`sideways claims`: the papers' claims, each checked by an experiment."""

from __future__ import annotations

import argparse
import json
import os
import re
from pathlib import Path

from sideways.errors import InputError
from sideways.tables import aligned, listed

PUBLISHED = Path(__file__).parents[1] / "studies" / "claims" / "README.md"
HELP = "check the papers' claims, each by an experiment with a verdict"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the claims to check, and the effort to spend."""
    parser.description = (
        "Check claims, each by an experiment that ends with a verdict: holds, holds in part, does not hold here. "
        "Without a name the claims are listed in full, with the verdict and the minutes of their last check in this "
        "folder."
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
    usual = parser.format_help
    parser.format_help = lambda: f"{usual()}\n{verdicts()}\n"  # type: ignore[method-assign]


def verdicts(directory: Path = Path("runs/claims")) -> str:
    """List the claims: the project's verdict on each, and the verdict and the minutes of the last check in a folder."""
    table = re.findall(
        r"^\| (\w+) \| ((?:holds|does not hold).*?) \|", PUBLISHED.read_text(encoding="utf-8"), re.MULTILINE
    )
    rows = [(name, *_last_check(directory / name / "finding.json"), verdict) for name, verdict in table]
    return aligned(("claim", f"last check in {directory}", "minutes", "the project's verdict"), rows, right=False)


def _last_check(path: Path) -> tuple[str, str]:
    """The verdict in a finding's file, and how long the check took; dashes if there is no file, or none to read."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        minutes = entries.get("minutes")
        return str(entries["verdict"]["word"]), "–" if minutes is None else f"{minutes:.0f}"
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return "–", "–"


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
