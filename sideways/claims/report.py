"""What `sideways claims` writes: report.md with a table of all claims, a section for each, renewed after each."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from sideways.bench.machine import machine
from sideways.claims.claim import Claim, Finding
from sideways.report import markdown


def write_report(path: Path, command: str, claims: Mapping[str, Claim], findings: Mapping[str, Finding]) -> None:
    """The table of what is found so far, and each experiment's table, checks and plots. Appears whole or not at all."""
    about = machine()
    sections = [
        "# The claims, checked",
        f"Written by `{command}`; every number here was computed by that run, on {about['cpu']}, "
        f"{about['cores']} cores, NumPy {about['numpy']}. ± is the standard deviation over seeds.",
        "A verdict follows from checks that are stated below it: if the first, the claim itself, fails, it *does not "
        "hold here*; if another fails, it *holds in part*.",
        "A quick run: few seeds and short training. `sideways claims all` takes what each claim wants."
        if "--quick" in command
        else "",
        markdown([_line(name, claims[name], finding) for name, finding in findings.items()]) if findings else "",
        *(_section(path.parent, name, claims[name], finding) for name, finding in findings.items()),
    ]
    draft = path.with_suffix(".draft")
    draft.write_text("\n\n".join(part for part in sections if part) + "\n", encoding="utf-8")
    os.replace(draft, path)


def _line(name: str, claim: Claim, finding: Finding) -> dict[str, str]:
    return {
        "claim": f"[{name}](#{name})",
        "in our words": f"{claim.words} ({claim.source})",
        "number": finding.number,
        "verdict": f"**{finding.verdict.word}**",
    }


def _section(folder: Path, name: str, claim: Claim, finding: Finding) -> str:
    checks = [
        {"rule": check.rule, "found": check.found, "": "yes" if check.true else "**no**"}
        for check in finding.verdict.checks
    ]
    parts = [
        f"## {name}",
        f"{claim.words} *({claim.source})*",
        f"**Verdict: {finding.verdict.word}.** What was run: {finding.what}",
        markdown(checks) if checks else "",
        markdown(finding.rows) if finding.rows else "",
        *(f"![{name}]({os.path.relpath(picture, folder)})" for picture in finding.pictures),
        finding.notes,
        f"Settings tried: {finding.tried}" if finding.tried else "",
    ]
    return "\n\n".join(part for part in parts if part)
