"""Turn docstrings into Markdown: aligned formulas stay as they are, and `name: words` lines become a list.

A Griffe extension. In this library's docstrings a paragraph is one of three things: prose; a block whose columns are
aligned with spaces, formulas or a small table; or lines `name: description`, continued by indented lines.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

ALIGNED = re.compile(r"\S {3,}\S")
NAMES = re.compile(r"[\w*]+(, [\w*]+)*")


class PlainDocstrings(griffe.Extension):
    """A Griffe extension that rewrites the docstring of every object once the object is loaded."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)


def markdown(docstring: str) -> str:
    """Return the docstring with each paragraph as Markdown."""
    return "\n\n".join(_paragraph(text) for text in re.split(r"\n\s*\n", docstring))


def _paragraph(text: str) -> str:
    lines = text.splitlines()
    if any(ALIGNED.search(line) for line in lines) or all(line.startswith("    ") for line in lines):
        return "\n".join(["```text", *_without_margin(lines), "```"])
    if all(line.startswith("    ") or _names(line) for line in lines):
        items: list[str] = []
        for line in lines:
            if names := _names(line):
                words = ", ".join(f"`{name}`" for name in names.split(", "))
                items.append(f"- {words}: {line[len(names) + 1 :].strip()}")
            else:
                items[-1] += f" {line.strip()}"
        return _prose("\n".join(items))
    return _prose(text)


def _prose(text: str) -> str:
    """Escape square brackets, which are indices here and never links; text in backquotes is code already."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else part.replace("[", "&#91;") for part in parts)


def _names(line: str) -> str:
    """Return the names before the colon of a line such as `network, loss: …`, or "" if there are none."""
    names, colon, _ = line.partition(": ")
    return names if colon and NAMES.fullmatch(names) else ""


def _without_margin(lines: list[str]) -> list[str]:
    margin = min(len(line) - len(line.lstrip()) for line in lines)
    return [line[margin:] for line in lines]
