"""The papers' claims, each an experiment that computes its numbers and its verdict: `sideways claims`.

A claim is a module beside this one: what was varied, the recipes it runs, the rules of its verdict.
"""

from __future__ import annotations

import shlex
import shutil
import traceback
from collections.abc import Sequence
from pathlib import Path

from sideways.errors import DivergedError, InputError, Interrupted
from sideways.studies.claims import aligned, appearance, future, recognition, remedies, smooth, speed, stable, temporal
from sideways.studies.claims.claim import Claim, Finding, Lab
from sideways.studies.claims.report import is_finding, keep, write_report
from sideways.studies.claims.verdict import NOT_RUN, Verdict
from sideways.training.report.result import Result

DIRECTORY = Path("runs/claims")
CLAIMS: dict[str, Claim] = {
    "temporal": temporal.CLAIM,
    "stable": stable.CLAIM,
    **appearance.CLAIMS,
    "smooth": smooth.CLAIM,
    "aligned": aligned.CLAIM,
    **speed.CLAIMS,
    "future": future.CLAIM,
    "recognition": recognition.CLAIM,
    "remedies": remedies.CLAIM,
}


def check_claims(
    names: Sequence[str],
    directory: Path,
    effort: str = "normal",
    seeds: int | None = None,
    processes: int = 1,
    data: Sequence[str] = (),
) -> dict[str, Finding]:
    """Run experiments one after the other, write report.md after each, and print its verdict.

    directory: gets report.md, of all claims that have a folder there, and such a folder for each claim. One of an
    earlier call is replaced. An experiment that fails, or is stopped, is reported as not run, and ends no other.
    """
    if unknown := [name for name in names if name not in CLAIMS]:
        raise InputError(f"no claim is called {unknown[0]!r}; there are {', '.join(CLAIMS)}")
    if data and names and "recognition" not in names:
        raise InputError("--data is for recognition, which is not among the claims to be checked")
    recognition.check_data(data)
    names = list(dict.fromkeys(names)) or list(CLAIMS)
    for name in names:
        if (directory / name).exists() and not is_finding(directory / name):
            raise InputError(f"{directory / name} is not of `sideways claims`: choose another --out")
    directory.mkdir(parents=True, exist_ok=True)
    write_report(directory, CLAIMS)  # refuses what is damaged before anything runs
    flags = [f"--{effort}"] if effort != "normal" else []
    flags += ["--seeds", str(seeds)] if seeds else []
    flags += [part for place in data for part in ("--data", place)]
    flags += ["--out", str(directory)] if directory != DIRECTORY else []
    findings: dict[str, Finding] = {}
    made: dict[str, Result | DivergedError] = {}
    for number, name in enumerate(names):
        folder = directory / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        command = shlex.join(["sideways", "claims", name, *flags])
        keep(folder, _not_run("it was stopped before its end"), command)
        lab = Lab(folder, effort, seeds, processes, tuple(data), made)
        try:
            finding = CLAIMS[name].run(lab)
        except KeyboardInterrupt:
            write_report(directory, CLAIMS)
            rest = shlex.join(["sideways", "claims", *names[number:], *flags])
            report = directory / "report.md"
            raise Interrupted(
                f"interrupted in {name}; {report} has what was done before; {rest} does the rest"
            ) from None
        except Exception as error:  # whatever it is: the other claims are still to be checked
            (folder / "error.txt").write_text(traceback.format_exc())
            why = f"{type(error).__name__}: {error}" if not isinstance(error, InputError) else str(error)
            finding = _not_run(why.strip().splitlines()[0])
        findings[name] = finding
        keep(folder, finding, command)
        write_report(directory, CLAIMS)
        print(f"{name:<12} {finding.verdict.word:<18} {finding.number or finding.what}", flush=True)
    print(f"Report: {directory / 'report.md'}")
    return findings


def _not_run(why: str) -> Finding:
    return Finding(Verdict(NOT_RUN, ()), "", why, [], "")
