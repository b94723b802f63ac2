"""Turn LaTeX into MathML while the site is built. Browsers draw MathML by themselves, so that nothing is fetched."""

from __future__ import annotations

import html
import re
from typing import Any

from latex2mathml.converter import convert

CODE = re.compile(r"(<pre.*?</pre>|<code.*?</code>|<script.*?</script>|<style.*?</style>)", re.DOTALL)
PAGES = re.compile(r"\\\((?P<inline>.+?)\\\)|\\\[(?P<block>.+?)\\\]", re.DOTALL)  # as arithmatex writes them
NOTEBOOKS = re.compile(r"\$\$(?P<block>.+?)\$\$|(?<![\\$\w])\$(?P<inline>[^$\n]+?)\$(?![\w$])", re.DOTALL)


def on_page_content(content: str, page: Any, **kwargs: Any) -> str:
    """Replace every formula outside of code."""
    formula = NOTEBOOKS if page.file.src_uri.endswith(".ipynb") else PAGES
    parts = CODE.split(content)
    return "".join(part if CODE.fullmatch(part) else formula.sub(_mathml, part) for part in parts)


def _mathml(match: re.Match[str]) -> str:
    block = match["block"]
    return convert(html.unescape(block or match["inline"]).strip(), display="block" if block else "inline")
