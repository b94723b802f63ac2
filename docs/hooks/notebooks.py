"""Show the notebooks as lessons: answers folded away, a place for the reader's guess, and links that lead to pages.

The tags of a notebook's cells say what is what; tests/folding.py describes them. Nothing that a reader writes is kept.
"""

from __future__ import annotations

import html
import json
import re
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent.parent
SHOWN = "source"  # the folder of the site for the files of the project that a page links to
CELL = re.compile(
    r'<div class="jp-Cell (?:jp-CodeCell[^"]*">|jp-MarkdownCell[^"]*" id=)'
)  # the outer element of a cell
UNFOLD = re.compile(r"<details><summary>What it shows</summary>|</details>")
LINK = re.compile(r'href="(?:\.\./)?([\w./-]+\.(?:py|toml|md|ipynb))"')
FILES = re.compile(r"\]\((?:\.\./)*((?:sideways|tests|tutorials)/[\w./-]+\.(?:py|toml))\)")
EXERCISE = "tutorials/exercise"  # its pages link to files beside them, and to docs/
BESIDE = re.compile(r"\]\(((?:solution/)?\w+\.(?:py|toml))\)")
DOCS = re.compile(r"\]\(\.\./\.\./docs/([\w/]+\.md)")
LANGUAGES = {".py": "python", ".toml": "toml"}
GUESS = (
    '<div class="guess"><label>Your guess'
    '<textarea rows="2" placeholder="It stays on this page, and is gone when you leave."></textarea></label></div>'
)
NO_PICTURE = "<pre>&lt;IPython.core.display.Image object&gt;</pre>"  # what nbconvert makes of an animation
SUMMARIES = {"reveal": "See what comes out", "answer": "See the answer"}


@event_priority(90)  # after pages.py has added the notebooks
def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each source file that a notebook or a page links to."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "tutorials").glob("*.ipynb")]
    texts += [path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md")]
    texts += [_from_root(path.read_text(encoding="utf-8")) for path in (ROOT / EXERCISE).glob("*.md")]
    for name in sorted({name for text in texts for name in FILES.findall(text)}):
        files.append(File.generated(config, f"{SHOWN}/{name}.md", content=_page_of(name)))
    return files


def on_page_markdown(markdown: str, page: Any, **kwargs: Any) -> str:
    """Let the links of a page to source files lead to the pages that show them."""
    up = "../" * page.file.src_uri.count("/")
    if page.file.src_uri.startswith(EXERCISE):
        markdown = DOCS.sub(r"](../../\1", _from_root(markdown))
    return FILES.sub(rf"]({up}{SHOWN}/\1.md)", markdown)


def _from_root(markdown: str) -> str:
    """Write the links of the exercise to the files beside it as paths from the folder of the project."""
    return BESIDE.sub(rf"]({EXERCISE}/\1)", markdown)


@event_priority(50)  # before formulas.py
def on_page_content(content: str, page: Any, **kwargs: Any) -> str:
    """Show a notebook's animations, fold its answers, and put a text box in the place of each cell for a guess."""
    if not page.file.src_uri.endswith(".ipynb"):
        return content
    cells = json.loads(Path(page.file.abs_src_path).read_text(encoding="utf-8"))["cells"]
    starts = [match.start() for match in CELL.finditer(content)]
    if len(starts) != len(cells):
        raise PluginError(f"{page.file.src_uri} has {len(cells)} cells, and {len(starts)} on its page")
    parts = [content[a:b] for a, b in zip(starts, [*starts[1:], len(content)], strict=True)]
    parts = [_animated(cell, part) for cell, part in zip(cells, parts, strict=True)]
    shown = [content[: starts[0]]]
    for kind, group in groupby(zip(cells, parts, strict=True), lambda pair: _kind(pair[0])):
        shown.append(_show(kind, [part for _, part in group]))
    return LINK.sub(_lead, "".join(shown))


def _animated(cell: dict[str, Any], part: str) -> str:
    """Put the animations of a cell where nbconvert, which knows no GIF, has put a text."""
    for output in cell.get("outputs", []):
        if gif := "".join(output.get("data", {}).get("image/gif", "")).strip():
            width = output["metadata"].get("image/gif", {}).get("width", "")
            size = f' width="{width}"' if width else ""
            part = part.replace(NO_PICTURE, f'<img src="data:image/gif;base64,{gif}" alt="animation"{size}>', 1)
    return part


def _kind(cell: dict[str, Any]) -> str:
    return next((tag for tag in cell["metadata"].get("tags", []) if tag in ("guess", *SUMMARIES)), "")


def _show(kind: str, parts: list[str]) -> str:
    if kind == "guess":
        return GUESS
    if kind in SUMMARIES:
        inside = "".join(UNFOLD.sub("", part) for part in parts)
        return f'<details class="{kind}"><summary>{SUMMARIES[kind]}</summary>{inside}</details>'
    return "".join(parts)


def _lead(match: re.Match[str]) -> str:
    """The link of a notebook to a file, as a link to the page of the site that shows the file."""
    path = PurePosixPath(match[1])
    if path.suffix == ".ipynb":
        return f'href="{path.with_suffix(".html")}"'
    if path.parts[0] == "docs":
        return f'href="../{PurePosixPath(*path.parts[1:]).with_suffix(".html")}"'
    if path.parts[0] == "exercise":
        return f'href="{path.with_name("index" if path.stem == "README" else path.stem)}.html"'
    return f'href="../{SHOWN}/{path}.html"' if path.parts[0] in ("sideways", "tests") else match[0]


def _page_of(name: str) -> str:
    text = (ROOT / name).read_text(encoding="utf-8")
    code = f"```````{LANGUAGES[Path(name).suffix]}\n{text.rstrip()}\n```````"
    settings = f"---\ntitle: {html.escape(Path(name).name)}\nhide: [toc]\nsearch:\n  exclude: true\n---"
    return f"{settings}\n\n# `{name}`\n\n{code}\n"
