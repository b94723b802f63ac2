"""The papers' claims, each an experiment that computes its numbers and its verdict: `sideways claims`.

A claim is a module beside this one: what was varied, the recipes it runs, the rules of its verdict.
"""

from __future__ import annotations

import shutil
import traceback
from collections.abc import Sequence
from pathlib import Path

from sideways.claims import aligned, appearance, future, recognition, remedies, smooth, speed, stable, temporal
from sideways.claims.claim import Bench, Claim, Finding
from sideways.claims.report import write_report
from sideways.claims.verdict import NOT_RUN, Verdict
from sideways.errors import DivergedError, InputError
from sideways.training import Result

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

    directory: gets report.md and a folder for each claim; one of an earlier call is replaced, those of other claims
    stay. An experiment that fails is reported as not run, with its error in error.txt, and ends no other.
    """
    if unknown := [name for name in names if name not in CLAIMS]:
        raise InputError(f"no claim is called {unknown[0]!r}; there are {', '.join(CLAIMS)}")
    names = list(names) or list(CLAIMS)
    directory.mkdir(parents=True, exist_ok=True)
    flags = [f"--{effort}"] if effort != "normal" else []
    flags += [f"--seeds {seeds}"] if seeds else []
    flags += [f"--data {place}" for place in data]
    command = " ".join(["sideways claims", *([] if names == list(CLAIMS) else names), *flags])
    findings: dict[str, Finding] = {}
    made: dict[str, Result | DivergedError] = {}
    for name in names:
        folder = directory / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        bench = Bench(folder, effort, seeds, processes, tuple(data), made)
        try:
            findings[name] = CLAIMS[name].run(bench)
        except Exception as error:  # whatever it is: the other claims are still to be checked
            (folder / "error.txt").write_text(traceback.format_exc())
            why = f"{type(error).__name__}: {error}" if not isinstance(error, InputError) else str(error)
            findings[name] = Finding(Verdict(NOT_RUN, ()), "", why.splitlines()[0], [], "")
        write_report(directory / "report.md", command, CLAIMS, findings)
        finding = findings[name]
        print(f"{name:<12} {finding.verdict.word:<18} {finding.number or finding.what}", flush=True)
    print(f"Report: {directory / 'report.md'}")
    return findings
