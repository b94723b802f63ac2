"""Check that every link and picture of the built site leads to a file that exists, and to an anchor in that file.

MkDocs checks the links in Markdown. This check also sees links that plugins, notebooks and templates wrote. Addresses
on other hosts are left alone. `make docs` runs the check, in tests/docs/.
"""

from __future__ import annotations

from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, path: Path):
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = {"", "top"}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value is not None:
                self.links.add(value)
            elif name == "id" or (name == "name" and tag == "a"):
                self.anchors.add(value or "")


read = cache(Page)


def broken(site: Path) -> list[str]:
    """Return one line for each link that leads nowhere."""
    complaints = []
    for path in sorted(site.rglob("*.html")):
        for link in sorted(read(path).links):
            address = urlsplit(link)
            if address.scheme or address.netloc:
                continue
            base = site if address.path.startswith("/") else path.parent
            target = (base / unquote(address.path).lstrip("/")).resolve() if address.path else path
            if target.is_dir():
                target /= "index.html"
            if not target.exists():
                complaints.append(f"{path.relative_to(site)}: {link}: no such file")
            elif target.suffix == ".html" and _anchor(unquote(address.fragment)) not in read(target).anchors:
                complaints.append(f"{path.relative_to(site)}: {link}: no such anchor")
    return complaints


def _anchor(fragment: str) -> str:
    """The anchor that a link needs. The explorer holds its state there, #chapter=…; it needs its list of chapters."""
    return "chapters" if fragment.startswith("chapter=") else fragment
