"""Tables as text: aligned columns for a terminal, Markdown for a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]], right: bool = True) -> str:
    """Aligned columns. right: flush all columns but the first to the right, as suits numbers."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = []
    for row in (head, *rows):
        cells = zip(row, widths, strict=True)
        lines.append("  ".join(c.rjust(w) if i and right else c.ljust(w) for i, (c, w) in enumerate(cells)).rstrip())
    return "\n".join(lines)


def markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """A table, its head from the keys of the first row."""
    head = list(rows[0])
    lines = [head, ["---"] * len(head), *([row[key] for key in head] for row in rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
