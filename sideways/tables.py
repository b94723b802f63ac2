"""Tables as text: aligned columns for a terminal, Markdown for a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]], right: bool = True) -> str:
    """A head and rows as lines of aligned columns, two spaces apart.

    right: flush all columns but the first to the right, as suits numbers.
    """
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = []
    for row in (head, *rows):
        cells = [
            cell.rjust(width) if i and right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def listed(descriptions: Mapping[str, str]) -> str:
    """A line for each name, with its description in a second column."""
    width = max(map(len, descriptions))
    return "\n".join(f"{name:<{width}}  {description}" for name, description in descriptions.items())


def markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """A table in Markdown; the keys of the first row are its head."""
    head = list(rows[0])
    lines = [head, ["---"] * len(head), *([row[key] for key in head] for row in rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
