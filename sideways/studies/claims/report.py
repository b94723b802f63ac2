"""What `sideways claims` writes: report.md with a table of all claims, a section for each, renewed after each.

It is made of what each claim's folder keeps, so that claims may be checked one by one, in any order.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sideways.errors import InputError
from sideways.machine import machine
from sideways.studies.claims.claim import Claim, Finding
from sideways.studies.claims.verdict import Check, Verdict
from sideways.tables import markdown

FINDING = "finding.json"  # in the folder of each claim


def keep(folder: Path, finding: Finding, command: str) -> None:
    """Write what a claim came to, and the command that checks it, into its folder."""
    pictures = [os.path.relpath(picture, folder) for picture in finding.pictures]
    about = asdict(finding) | {"pictures": pictures, "command": command, "machine": machine()}
    _write(folder / FINDING, json.dumps(about, indent=1))


def is_finding(folder: Path) -> bool:
    """Whether a claim was checked there."""
    return (folder / FINDING).is_file()


def write_report(directory: Path, claims: Mapping[str, Claim]) -> None:
    """report.md: a table of all claims that were checked in this directory, and of each its table, checks and plots."""
    found = {name: _read(directory / name) for name in claims if is_finding(directory / name)}
    commands = [command for _, command, _ in found.values()]
    sections = [
        "# The claims, checked",
        "Written by `sideways claims`. Every number was computed by the command that is named with it. ± is the "
        "standard deviation over seeds.",
        "A verdict follows from checks that are stated below it: if the first, the claim itself, fails, it *does not "
        "hold here*; if another fails, it *holds in part*.",
        "Where --quick is named: few seeds and short training. `sideways claims all` takes what each claim wants."
        if any("--quick" in command for command in commands)
        else "",
        markdown([_line(name, claims[name], finding) for name, (finding, _, _) in found.items()]) if found else "",
        *(_section(directory, name, claims[name], *what) for name, what in found.items()),
    ]
    _write(directory / "report.md", "\n\n".join(part for part in sections if part) + "\n")


def _write(path: Path, text: str) -> None:
    """Whole, or not at all."""
    draft = path.with_suffix(".draft")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)


def _read(folder: Path) -> tuple[Finding, str, dict[str, Any]]:
    """A finding as it was kept, its command, and the machine."""
    try:
        about = json.loads((folder / FINDING).read_text(encoding="utf-8"))
        command, on, verdict = about.pop("command"), about.pop("machine"), about.pop("verdict")
        checked = Verdict(verdict["word"], tuple(Check(**check) for check in verdict["checks"]))
        about["pictures"] = [folder / picture for picture in about["pictures"]]
        return Finding(verdict=checked, **about), command, on
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{folder / FINDING} is damaged, or of another version: remove {folder}") from None


def _line(name: str, claim: Claim, finding: Finding) -> dict[str, str]:
    return {
        "claim": f"[{name}](#{name})",
        "in our words": f"{claim.words} ({claim.source})",
        "number": finding.number,
        "verdict": f"**{finding.verdict.word}**",
    }


def _section(folder: Path, name: str, claim: Claim, finding: Finding, command: str, on: Mapping[str, Any]) -> str:
    checks = [
        {"rule": check.rule, "found": check.found, "": "yes" if check.true else "**no**"}
        for check in finding.verdict.checks
    ]
    parts = [
        f"## {name}",
        f"{claim.words} *({claim.source})*",
        f"**Verdict: {finding.verdict.word}.** What was run: {finding.what}",
        f"`{command}`, on {on['cpu']}, {on['cores']} cores, NumPy {on['numpy']}.",
        markdown(checks) if checks else "",
        markdown(finding.rows) if finding.rows else "",
        *(f"![{name}]({os.path.relpath(picture, folder)})" for picture in finding.pictures),
        finding.notes,
        f"Settings tried: {finding.tried}" if finding.tried else "",
    ]
    return "\n\n".join(part for part in parts if part)
