"""The explorer: one self-contained HTML page on backpropagation, (Skip-)Sideways and Delayed, in chapters.

The page carries the library's own schedule of the graphs that it opens with, and the cells of `Delayed` that learns
from every loss. `schedule.js` computes both for graphs that a reader edits, and the cells for other marked losses.
`network.js` and `rules.js` let small networks learn in the page; `cases.py` exports numbers to compare them with.
"""

from __future__ import annotations

import json
import webbrowser
from importlib.resources import files
from pathlib import Path

from sideways.errors import InputError
from sideways.explore.cells import FRAME_COLOURS, chain, exported

PARTS = (  # files that page.html includes as @@NAME@@
    "page.css", "schedule.js", "matrices.js", "network.js", "rules.js", "film.js", "diagram.js", "words.js", "signs.js",
    "learn.js", "live.js", "chapters.js", "address.js", "state.js", "page.js",
)  # fmt: skip
FIRST_GRAPHS = ((5, ()), (5, ((1, 4),)))  # (depth, skip edges) of the graphs that the page opens with


def explore(out: Path, open_browser: bool = True) -> None:
    """Write the page to a file, and open it in the browser. Raises `InputError` if it cannot be written."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(page(), encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror or error}") from None
    print(f"written to {out}")
    if open_browser and not webbrowser.open(out.absolute().as_uri()):
        print("no browser was found: open the file in one")


def page() -> str:
    """The page as one HTML text that needs no other file."""
    folder = files("sideways.explore")
    html = (folder / "page.html").read_text(encoding="utf-8")
    for part in PARTS:
        html = html.replace(f"@@{part}@@", (folder / part).read_text(encoding="utf-8").strip())
    for name, value in (("graphs", graphs()), ("colours", FRAME_COLOURS)):
        html = html.replace(f"@@{name}@@", json.dumps(value, separators=(",", ":")))
    return html


def graphs() -> dict[str, dict]:
    """The schedules of the graphs that the page opens with; a key is `depth:source>consumer,…`."""
    return {
        f"{depth}:{','.join(f'{source}>{consumer}' for source, consumer in skips)}": exported(
            chain(depth, skips), ticks_shown(depth)
        )
        for depth, skips in FIRST_GRAPHS
    }


def ticks_shown(depth: int) -> int:
    """The ticks of a diagram: two update cycles of backpropagation and two more, at least 12."""
    return max(12, 2 * (2 * depth - 1) + 2)
