"""The report of `sideways claims`: report.md, with a table of all claims and a section for each.

The report is written anew after each claim, from the finding.json in each claim's folder, so that claims may be checked
one by one, in any order.
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
from sideways.studies.claims.verdict import NOT_RUN, Check, Verdict
from sideways.tables import markdown

FINDING = "finding.json"  # in the folder of each claim


def keep(folder: Path, finding: Finding, command: str) -> None:
    """Write a finding, and the command that repeats the experiment, into the claim's folder."""
    pictures = [os.path.relpath(picture, folder) for picture in finding.pictures]
    entries = asdict(finding) | {"pictures": pictures, "command": command, "machine": machine()}
    _write(folder / FINDING, json.dumps(entries, indent=1))


def is_finding(folder: Path) -> bool:
    """True if a claim was checked in this folder."""
    return (folder / FINDING).is_file()


def kept(folder: Path, command: str) -> Finding | None:
    """The finding of this very command, if its experiment came to its end; None else."""
    if not is_finding(folder):
        return None
    finding, earlier, _ = _read(folder)
    return finding if earlier == command and finding.verdict.word != NOT_RUN else None


def last_verdict(folder: Path) -> str:
    """The verdict of the last check in this folder, such as ` Last: holds, 3 minutes.`; empty if there was none."""
    if not is_finding(folder):
        return ""
    finding, _, _ = _read(folder)
    took = "" if finding.minutes is None else f", {finding.minutes:.0f} minutes"
    return f" Last: {_words(finding)}{took}."


def write_report(directory: Path, claims: Mapping[str, Claim]) -> None:
    """Write report.md on all claims that were checked in this directory: a table, then a section for each."""
    findings = {name: _read(directory / name) for name in claims if is_finding(directory / name)}
    commands = [command for _, command, _ in findings.values()]
    sections = [
        "# The claims, checked",
        "Written by `sideways claims`. Every number was computed by the command that is named with it. ± is the "
        "standard deviation over seeds, in checks the standard error of a difference.",
        "A verdict follows from checks that are stated below it: if the first, the claim itself, fails, it *does not "
        "hold here*; if another fails, it *holds in part*.",
        "With --quick there are few seeds, short runs, and not all arms; `sideways claims all` gives each "
        "experiment all that it needs."
        if any("--quick" in command for command in commands)
        else "",
        markdown([_line(name, claims[name], finding) for name, (finding, _, _) in findings.items()])
        if findings
        else "",
        f"Together {sum(finding.minutes or 0 for finding, _, _ in findings.values()):.0f} minutes; a claim counts from "
        "its start, or from the last time that it was resumed.",
        *(_section(directory, name, claims[name], *parts) for name, parts in findings.items()),
    ]
    _write(directory / "report.md", "\n\n".join(part for part in sections if part) + "\n")


def _write(path: Path, text: str) -> None:
    """Write the file whole or not at all, by renaming a draft."""
    draft = path.with_suffix(".draft")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)


def _read(folder: Path) -> tuple[Finding, str, dict[str, Any]]:
    """Read a finding from its folder: (finding, command, machine)."""
    try:
        entries = json.loads((folder / FINDING).read_text(encoding="utf-8"))
        command, computer = entries.pop("command"), entries.pop("machine")
        for name in ("verdict", "exact"):
            if verdict := entries.get(name):
                entries[name] = Verdict(verdict["word"], tuple(Check(**check) for check in verdict["checks"]))
        entries["pictures"] = [folder / picture for picture in entries["pictures"]]
        return Finding(**entries), command, computer
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{folder / FINDING} is damaged, or of another version: remove {folder}") from None


def _words(finding: Finding, mark: str = "") -> str:
    """The verdict in words, and that of the exact rule; the first between marks."""
    return f"{mark}{finding.verdict.word}{mark}" + (f"; exact rule: {finding.exact.word}" if finding.exact else "")


def _line(name: str, claim: Claim, finding: Finding) -> dict[str, str]:
    return {
        "claim": f"[{name}](#{name})",
        "in our words": f"{claim.words} ({claim.source})",
        "number": finding.number,
        "verdict": _words(finding, "**"),
        "minutes": "" if finding.minutes is None else f"{finding.minutes:.1f}",
    }


def _section(folder: Path, name: str, claim: Claim, finding: Finding, command: str, computer: Mapping[str, Any]) -> str:
    parts = [
        f"## {name}",
        f"{claim.words} *({claim.source})*",
        f"**Verdict: {finding.verdict.word}.** The runs: {finding.what}",
        f"`{command}`, on {computer['cpu']}, {computer['cores']} cores, NumPy {computer['numpy']}.",
        _checks(finding.verdict),
        f"**For the exact rule, `Delayed`: {finding.exact.word}.**" if finding.exact else "",
        _checks(finding.exact) if finding.exact else "",
        markdown(finding.rows) if finding.rows else "",
        *(f"![{name}]({os.path.relpath(picture, folder)})" for picture in finding.pictures),
        finding.notes,
        f"Settings tried: {finding.tried}" if finding.tried else "",
    ]
    return "\n\n".join(part for part in parts if part)


def _checks(verdict: Verdict) -> str:
    """The checks of a verdict as a table; empty if there are none."""
    rows = [
        {"rule": check.rule, "measured": check.found, "": "yes" if check.true else "**no**"} for check in verdict.checks
    ]
    return markdown(rows) if rows else ""
