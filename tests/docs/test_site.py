"""The documentation site in site/, as `make docs` built it: links, formulas, commands, and the link checker itself."""

import argparse
import html
import importlib
import inspect
import json
import re
import runpy
from html.parser import HTMLParser
from pathlib import Path

import pytest
from folding import source, tags
from notebooks import NOTEBOOKS, read, text

import sideways as sw
from sideways.commands.main import command_line
from sideways.studies.claims.check import CLAIMS

pytestmark = pytest.mark.docs
ROOT = Path(__file__).parent.parent.parent
SITE = ROOT / "site"
NOTEBOOK = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
broken = runpy.run_path(str(ROOT / "docs" / "hooks" / "check_links.py"))["broken"]


def blocks(page):
    """Return the preformatted texts of a page, without the marks of colouring."""
    text = (SITE / page).read_text(encoding="utf-8")
    return [html.unescape(re.sub(r"<[^>]+>", "", block)) for block in re.findall(r"<pre.*?</pre>", text, re.DOTALL)]


def test_every_link_leads_somewhere():
    assert broken(SITE) == []


def test_the_check_of_links_finds_missing_files_and_missing_anchors(tmp_path):
    (tmp_path / "a.html").write_text(
        '<h1 id="one">1</h1><a href="b.html#two">b</a><a href="#one">1</a><a href="b.html#three">no</a>'
        '<img src="c.png"><a href="https://example.org/x#y">elsewhere</a><a href="b.html#chapter=2&amp;tick=3">no</a>'
    )
    (tmp_path / "b.html").write_text('<h1 id="two">2</h1>')
    assert broken(tmp_path) == [
        "a.html: b.html#chapter=2&tick=3: no such anchor",
        "a.html: b.html#three: no such anchor",
        "a.html: c.png: no such file",
    ]
    other = tmp_path / "other"  # pages are read once, so a changed page needs another address
    other.mkdir()
    (tmp_path / "a.html").rename(other / "a.html")
    (other / "b.html").write_text('<h1 id="two">2</h1><h1 id="three">3</h1><ol id="chapters"></ol>')
    assert broken(other) == ["a.html: c.png: no such file"]


def test_the_explorer_follows_the_dark_mode_of_the_site_and_its_chapters_are_linked():
    page = (SITE / "explorer.html").read_text(encoding="utf-8")
    assert "mdColorScheme" in page and all(f"explorer/page.html#chapter={chapter}" in page for chapter in range(1, 9))


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
    assert all((SITE / page).read_text(encoding="utf-8").count("<math") > 20 for page in ("maths.html", "delayed.html"))


def test_the_start_page_shows_the_idea_the_result_the_papers_and_the_tick():
    page = (SITE / "index.html").read_text(encoding="utf-8")
    assert all(picture in page for picture in ('src="cycle.gif"', 'src="demo.png"'))
    assert all(f"https://arxiv.org/abs/{number}" in page for number in ("2001.06232", "2106.08318"))
    assert any(block.startswith("def make_tick(weights, rate):") for block in blocks("index.html"))


@pytest.mark.parametrize(
    ("page", "command"),
    [
        ("gpus.html", "mpirun -n 2 sideways train"),
        ("data.html", "sideways data check ucf101:"),
        ("training.html", "sideways recipes"),
        ("delayed.html", "sideways train pan-delayed"),
        ("prediction.html", "sideways train waves-predictor-gated"),
    ],
)
def test_the_commands_of_a_page_are_shown_as_code(page, command):
    assert any(block.startswith(command) for block in blocks(page))


@pytest.mark.parametrize(
    ("page", "source"),
    [
        ("claims.html", "sideways/studies/claims/README.md"),
        ("benchmarks.html", "sideways/studies/bench/README.md"),
        ("contributing.html", "CONTRIBUTING.md"),
        ("changelog.html", "CHANGELOG.md"),
    ],
)
def test_a_page_that_is_written_elsewhere_has_all_headings_of_its_source(page, source):
    headings = re.findall(r"^#+ (.+)$", (ROOT / source).read_text(encoding="utf-8"), re.MULTILINE)
    text = html.unescape((SITE / page).read_text(encoding="utf-8"))
    shown = {re.sub(r"<[^>]+>|¶", "", heading).strip() for heading in re.findall(r"<h\d.*?</h\d>", text, re.DOTALL)}
    plain = {re.sub(r"[`*]", "", heading).strip() for heading in headings}
    assert headings and plain - {heading.replace("’", "'") for heading in shown} == set()


class VisibleText(HTMLParser):
    """The lines of a page that a reader sees before opening anything, and the number of its text boxes."""

    def __init__(self, page):
        super().__init__()
        self.closed, self.unseen, self.text, self.boxes = [], 0, [], 0
        self.feed((SITE / page).read_text(encoding="utf-8"))

    @property
    def lines(self):
        return {" ".join(line.split()) for line in "".join(self.text).splitlines()}

    def handle_starttag(self, tag, attrs):
        self.boxes += tag == "textarea"
        self.unseen += tag in ("script", "style")
        if tag == "details":
            self.closed.append("open" not in dict(attrs))

    def handle_endtag(self, tag):
        self.unseen -= tag in ("script", "style")
        if tag == "details":
            self.closed.pop()

    def handle_data(self, data):
        if not self.unseen and not any(self.closed):
            self.text.append(data)


@NOTEBOOK
def test_no_page_of_a_notebook_shows_an_answer_unasked_and_each_question_has_a_box_for_a_guess(path):
    cells = read(path)["cells"]
    folded = [{"reveal", "answer"} & set(tags(cell)) != set() for cell in cells]
    printed = [
        {" ".join(line.split()) for line in f"{source(cell)}\n{text(cell)}".splitlines()}
        if cell["cell_type"] == "code"
        else set()
        for cell in cells
    ]
    shown = set().union(*(lines for lines, hidden in zip(printed, folded, strict=True) if not hidden))
    answers = set().union(*(lines for lines, hidden in zip(printed, folded, strict=True) if hidden)) - shown
    page = VisibleText(f"tutorials/{path.stem}.html")
    long = {line for line in answers if len(line) > 20}
    assert long
    assert long & page.lines == set()
    assert {line for line in shown if len(line) > 20} <= page.lines
    assert page.boxes == sum("predict" in tags(cell) for cell in cells) > 0


@NOTEBOOK
def test_no_page_of_a_notebook_shows_the_marks_of_the_tests(path):
    page = (SITE / "tutorials" / f"{path.stem}.html").read_text(encoding="utf-8")
    assert "# result:" not in html.unescape(re.sub(r"<[^>]+>", "", page))


def test_the_page_of_the_tutorials_has_a_card_for_each_notebook():
    page = (SITE / "tutorials" / "index.html").read_text(encoding="utf-8")
    cards = re.findall(r'<div class="card">.*?</div>', page, re.DOTALL)
    assert len(cards) == len(NOTEBOOKS)
    for path, card in zip(NOTEBOOKS, cards, strict=True):
        assert f'href="{path.stem}.html"' in card and '<img alt="" src="pictures/' in card
        assert re.search(r"\d+ minutes", card) and "Afterwards you can" in card


def test_the_exercise_has_a_page_with_folded_hints_and_pages_of_its_scaffold_and_its_solution():
    lines = VisibleText("tutorials/exercise/index.html").lines
    assert "Hint" not in " ".join(lines) and "remember the target" not in " ".join(lines)
    assert any("Before you write," in line for line in lines)
    page = (SITE / "tutorials" / "exercise" / "index.html").read_text(encoding="utf-8")
    assert page.count("<details") == page.count("<summary>") >= 15 and "remember the target" in page
    for name in ("my_sideways.py", "solution/my_sideways.py"):
        assert f'href="../../source/tutorials/exercise/{name}.html"' in page
    assert 'href="exercise/index.html"' in (SITE / "tutorials" / "index.html").read_text(encoding="utf-8")
    assert "film.py my_film.mp4" in "\n".join(blocks("tutorials/exercise/capstone.html"))


def test_the_page_of_the_claims_has_every_claim_with_its_words_and_the_verdict_of_the_list():
    text = (ROOT / "sideways" / "studies" / "claims" / "README.md").read_text(encoding="utf-8")
    verdicts = dict(re.findall(r"^\| (\w+) \| ([^|;]+?)(?:;[^|]*)? \|", text, re.MULTILINE))
    rows = re.findall(r"<tr>.*?</tr>", (SITE / "claims.html").read_text(encoding="utf-8"), re.DOTALL)
    assert set(CLAIMS) <= set(verdicts)
    for name, claim in CLAIMS.items():
        (row,) = [row for row in rows if f"<code>{name}</code><br" in row]
        words = html.unescape(re.sub(r"<[^>]+>", "", row))
        assert claim.words.replace("`", "") in words
        assert f">{verdicts[name]}</span>" in row


def test_every_notebook_is_a_page():
    notebooks = sorted((ROOT / "tutorials").glob("[0-9]*.ipynb"))
    assert all((SITE / "tutorials" / path.name).with_suffix(".html").exists() for path in notebooks)


def test_every_animation_of_a_notebook_is_on_its_page():
    shown = 0
    for path in sorted((ROOT / "tutorials").glob("[0-9]*.ipynb")):
        page = (SITE / "tutorials" / path.name).with_suffix(".html").read_text(encoding="utf-8")
        assert "IPython.core.display" not in page
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        for output in (output for cell in cells for output in cell.get("outputs", [])):
            if gif := "".join(output.get("data", {}).get("image/gif", "")).strip():
                assert f'<img src="data:image/gif;base64,{gif}"' in page
                shown += 1
    assert shown >= 2


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
