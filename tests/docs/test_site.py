"""The documentation site in site/, as `make docs` built it: links, formulas, commands; and the check of links."""

import argparse
import html
import importlib
import inspect
import re
import runpy
from pathlib import Path

import pytest

import sideways as sw
from sideways.commands.main import command_line

pytestmark = pytest.mark.docs
ROOT = Path(__file__).parent.parent.parent
SITE = ROOT / "site"
broken = runpy.run_path(str(ROOT / "docs" / "hooks" / "check_links.py"))["broken"]


def blocks(page):
    """The preformatted texts of a page, without the marks of colouring."""
    text = (SITE / page).read_text(encoding="utf-8")
    return [html.unescape(re.sub(r"<[^>]+>", "", block)) for block in re.findall(r"<pre.*?</pre>", text, re.DOTALL)]


def test_every_link_leads_somewhere():
    assert broken(SITE) == []


def test_the_check_of_links_finds_missing_files_and_missing_anchors(tmp_path):
    (tmp_path / "a.html").write_text(
        '<h1 id="one">1</h1><a href="b.html#two">b</a><a href="#one">1</a><a href="b.html#three">no</a>'
        '<img src="c.png"><a href="https://example.org/x#y">elsewhere</a>'
    )
    (tmp_path / "b.html").write_text('<h1 id="two">2</h1>')
    assert broken(tmp_path) == ["a.html: b.html#three: no such anchor", "a.html: c.png: no such file"]


@pytest.mark.parametrize("layer", [sw.Dense, sw.Conv2D, sw.MaxPool2D, sw.BatchNorm, sw.Sequential])
def test_the_formulas_of_a_layer_stand_on_its_page_with_their_columns_aligned(layer):
    lines = inspect.getdoc(layer).splitlines()
    formulas = [line for line in lines if re.match(r"(forward|backward) {2,}\S| {4,}\S", line)]
    shown = "\n".join(blocks("api/layers.html")).splitlines()
    assert formulas
    assert [line for line in formulas if line.rstrip() not in shown] == []


def test_every_command_and_option_stands_on_the_page_of_the_command_line():
    page = html.unescape((SITE / "commands.html").read_text(encoding="utf-8"))
    parsers, options = [command_line()], set()
    while parsers:
        parser = parsers.pop()
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                parsers += action.choices.values()
            elif not isinstance(action, argparse._HelpAction):
                options.update((parser.prog, option) for option in action.option_strings)
    assert ("sideways explore", "--no-open") in options
    sections = dict(re.findall(r'<h2 id="[^"]*">([^<]+)<(.*?)(?=<h2|</article)', page, re.DOTALL))
    assert [(prog, option) for prog, option in sorted(options) if f"<code>{option}</code>" not in sections[prog]] == []


def test_no_formula_is_left_in_latex_and_nothing_is_fetched_from_another_host():
    for path in SITE.rglob("*.html"):
        text = re.sub(r"<(pre|code|script|style).*?</\1>", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        assert not re.search(r"\\\(|\\\[|\\frac|\\theta", text), path
        assert not re.search(r'<(script|img|iframe)[^>]+src="https?:|<link[^>]+stylesheet[^>]+"https?:', text), path
    assert (SITE / "maths.html").read_text(encoding="utf-8").count("<math") > 20


def test_sections_of_the_readme_keep_their_commands_as_code():
    assert any(block.startswith(".venv/bin/mpirun -n 2") for block in blocks("gpus.html"))
    assert any("data check ucf101:" in block for block in blocks("data.html"))
    assert any(block.startswith(".venv/bin/sideways recipes") for block in blocks("recipes.html"))


def test_every_notebook_is_a_page():
    notebooks = sorted((ROOT / "tutorials").glob("[0-9]*.ipynb"))
    assert all((SITE / "tutorials" / path.name).with_suffix(".html").exists() for path in notebooks)


def test_every_module_that_the_pages_name_can_be_imported():
    names = [
        name
        for page in (ROOT / "docs" / "api").glob("*.md")
        for name in re.findall(r"^::: (\S+)", page.read_text(), re.M)
    ]
    assert len(names) > 40
    for name in names:
        module, _, last = name.rpartition(".")
        assert last in ("Unit", "Network") or importlib.import_module(name).__doc__, name
        importlib.import_module(module)
