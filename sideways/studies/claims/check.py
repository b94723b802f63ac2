"""The papers' claims, each an experiment that computes its numbers and its verdict: `sideways claims`.

Each module beside this one holds a claim or two: the settings that are varied, the recipes, the rules of the verdict.
"""

from __future__ import annotations

import shlex
import shutil
import time
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sideways.errors import DivergedError, InputError, Interrupted
from sideways.studies.claims import (
    aligned,
    appearance,
    exact,
    future,
    online,
    recognition,
    smooth,
    speed,
    stable,
    temporal,
)
from sideways.studies.claims.claim import Claim, Finding, Lab, finished_runs
from sideways.studies.claims.report import is_finding, keep, kept, write_report
from sideways.studies.claims.verdict import NOT_RUN, Verdict
from sideways.training.report.result import Result

DIRECTORY = Path("runs/claims")
CLAIMS: dict[str, Claim] = {
    "temporal": temporal.CLAIM,
    "stable": stable.CLAIM,
    **appearance.CLAIMS,
    "smooth": smooth.CLAIM,
    "aligned": aligned.CLAIM,
    "exact": exact.CLAIM,
    **speed.CLAIMS,
    "future": future.CLAIM,
    "online": online.CLAIM,
    "recognition": recognition.CLAIM,
}


def check_claims(
    names: Sequence[str],
    directory: Path,
    effort: str = "normal",
    seeds: int | None = None,
    processes: int = 1,
    data: Sequence[str] = (),
    resume: bool = False,
) -> dict[str, Finding]:
    """Run experiments one after the other; after each, write report.md and print the verdict.

    names: claims, none for all. directory: receives a folder for each claim, and report.md on all claims that have a
    folder there. A claim that is checked again replaces its folder. resume: keep the findings of the same command, and
    let an experiment that was stopped go on after its last finished run.

    An experiment that fails or is stopped is reported as not run, and the others go on. Raises `InputError` for unknown
    names, and for a folder that this function did not write.
    """
    _check_arguments(names, data)
    names = list(dict.fromkeys(names)) or list(CLAIMS)
    for name in names:
        if (directory / name).exists() and not is_finding(directory / name):
            raise InputError(f"{directory / name} was not written by `sideways claims`: choose another --out")
    directory.mkdir(parents=True, exist_ok=True)
    write_report(directory, CLAIMS)  # A damaged finding is refused here, before anything runs.
    flags = _flags(directory, effort, seeds, data)
    findings: dict[str, Finding] = {}
    results: dict[str, Result | DivergedError] = {}
    for name in names:
        folder = directory / name
        command = shlex.join(["sideways", "claims", name, *flags])
        if resume and (finding := kept(folder, command)):
            findings[name] = finding
            results.update(finished_runs(folder))
            continue
        if not resume:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(exist_ok=True)
        keep(folder, _not_run("the run was stopped before its end"), command)
        start = time.monotonic()
        try:
            finding = _run(name, Lab(folder, effort, seeds, processes, resume, tuple(data), results))
        except KeyboardInterrupt:
            write_report(directory, CLAIMS)
            rest = shlex.join(["sideways", "claims", *names, *flags, "--resume"])
            report = directory / "report.md"
            raise Interrupted(
                f"interrupted in {name}; {report} covers the claims checked before; to go on: {rest}"
            ) from None
        findings[name] = finding = replace(finding, minutes=(time.monotonic() - start) / 60)
        keep(folder, finding, command)
        write_report(directory, CLAIMS)
        exact = f"; exact rule: {finding.exact.word}" if finding.exact else ""
        print(f"{name:<12} {finding.verdict.word:<18} {finding.number or finding.what}{exact}", flush=True)
    print(f"Report: {directory / 'report.md'}")
    return findings


def _check_arguments(names: Sequence[str], data: Sequence[str]) -> None:
    """Refuse unknown claims, and data sets that no claim uses or that cannot be opened."""
    if unknown := [name for name in names if name not in CLAIMS]:
        raise InputError(f"no claim is called {unknown[0]!r}; there are {', '.join(CLAIMS)}")
    if data and names and "recognition" not in names:
        raise InputError("--data is for recognition, which is not among the claims to be checked")
    recognition.check_data(data)


def _flags(directory: Path, effort: str, seeds: int | None, data: Sequence[str]) -> list[str]:
    """The options of `sideways claims` that repeat this call."""
    flags = [f"--{effort}"] if effort != "normal" else []
    flags += ["--seeds", str(seeds)] if seeds else []
    flags += [part for data_set in data for part in ("--data", data_set)]
    return flags + (["--out", str(directory)] if directory != DIRECTORY else [])


def _run(name: str, lab: Lab) -> Finding:
    """Run one experiment; if it fails, write error.txt and say why in the finding."""
    try:
        return CLAIMS[name].run(lab)
    except Exception as error:  # Any error ends this claim only; the other claims are still to be checked.
        (lab.directory / "error.txt").write_text(traceback.format_exc())
        reason = f"{type(error).__name__}: {error}" if not isinstance(error, InputError) else str(error)
        return _not_run(reason.strip().splitlines()[0])


def _not_run(reason: str) -> Finding:
    return Finding(Verdict(NOT_RUN, ()), "", reason, [], "")
