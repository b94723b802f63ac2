"""Fill in what the site takes from the library, so that nothing is written twice: the command line from argparse, the
recipes and models, the notebooks as they were saved, the exercise, and the explorer.

In a page, `<!-- take: recipes -->` is replaced by the list of recipes, and so on for each name in `SOURCES`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files

from sideways.commands.main import command_line
from sideways.explore.page import page as explorer
from sideways.models import MODELS
from sideways.studies.claims.check import CLAIMS
from sideways.training.recipes import load_recipe, recipe_names

ROOT = Path(__file__).parent.parent.parent
EXERCISE = {"README.md": "Exercise: write Sideways", "capstone.md": "Capstone: your rule, your video"}
TAKE = re.compile(r"<!-- take: (\w+) -->")


def on_config(config: MkDocsConfig) -> None:
    """List the notebooks of tutorials/ after the page that introduces them, and then the exercise."""
    (tutorials,) = (entry["Tutorials"] for entry in config.nav or [] if "Tutorials" in entry)
    tutorials.extend({_title(path): f"tutorials/{path.name}"} for path in _notebooks())
    tutorials.extend({title: f"tutorials/exercise/{name}"} for name, title in EXERCISE.items())


@event_priority(100)  # before the plugin that renders notebooks looks for them
def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the notebooks, the pages of the exercise, and the explorer's page."""
    for name in [*(path.name for path in _notebooks()), *(f"exercise/{name}" for name in EXERCISE)]:
        files.append(File(f"tutorials/{name}", str(ROOT), config.site_dir, config.use_directory_urls))
    files.append(File.generated(config, "explorer/page.html", content=explorer()))
    return files


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """Replace every `<!-- take: … -->` of a page."""
    return TAKE.sub(lambda match: SOURCES[match[1]](), markdown)


def _notebooks() -> list[Path]:
    return sorted((ROOT / "tutorials").glob("[0-9]*.ipynb"))


def _title(path: Path) -> str:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    text = "".join("".join(cell["source"]) + "\n" for cell in cells if cell["cell_type"] == "markdown")
    heading = re.search(r"^# (.+)$", text, re.MULTILINE)
    return heading[1] if heading else path.stem


# Sources -------------------------------------------------------------------------------------------------------------


def recipes() -> str:
    rows = [(name, load_recipe(name)) for name in recipe_names()]
    head = "| recipe | what it is | network | rule |\n|---|---|---|---|\n"
    return head + "\n".join(f"| `{n}` | {r['summary']} | `{r['model']}` | `{r['rule']}` |" for n, r in rows)


def models() -> str:
    return "| network | what it is |\n|---|---|\n" + "\n".join(f"| `{n}` | {words} |" for n, words in MODELS.items())


def commands() -> str:
    """List every command with its options, read from the parsers."""
    return "\n\n".join(_of_parser(command_line(), ""))


def mpi_help() -> str:
    """The help of `mpirun -n K sideways train`, from running the command: to import its module would start MPI."""
    command, wide = [sys.executable, "-m", "sideways.mpi", "--help"], os.environ | {"COLUMNS": "110"}
    result = subprocess.run(command, cwd=ROOT, env=wide, capture_output=True, text=True)
    if result.returncode:
        raise PluginError(f"python -m sideways.mpi --help failed: {result.stderr}")
    return f"```text\n{result.stdout.strip()}\n```"


def _of_parser(parser: argparse.ArgumentParser, words: str) -> Iterator[str]:
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for action in below:
        helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
        for name, command in action.choices.items():
            yield from _of_parser(command, helps.get(name, ""))
    if not below:
        yield _of_command(parser, words)


def _of_command(parser: argparse.ArgumentParser, words: str) -> str:
    rows = []
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        values = "\\|".join(map(str, action.choices)) if action.choices else action.metavar or action.dest.upper()
        takes = "" if action.nargs == 0 else f" {values}"
        name = ", ".join(f"`{option}`{takes}" for option in action.option_strings) or values
        rows.append(f"| {name} | {(action.help or '').replace('|', chr(92) + '|').replace('%%', '%')} |")
    table = ["| option | |\n|---|---|\n" + "\n".join(rows)] if rows else []
    text = parser.description or f"{words[:1].upper()}{words[1:]}."
    examples = [parser.epilog] if parser.epilog else []
    return "\n\n".join([f"## {parser.prog}", text, *table, *(_escape(example) for example in examples)])


def _escape(text: str) -> str:
    head, _, rest = text.partition(": ")
    return f"{head}:\n\n" + "\n".join(f"    {example.strip().rstrip('.')}" for example in rest.split("; "))


def tutorials() -> str:
    """A card for each notebook: picture, title, minutes, and the sentence that says what one can do after it."""
    return '<div class="cards" markdown>\n' + "\n".join(map(_card, _notebooks())) + "\n</div>"


def _card(path: Path) -> str:
    text = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])
    able, minutes = (
        re.search(words, text) for words in (r"\*\*You will be able to\*\* (.+)", r"[Ss]ome (\d+) minutes")
    )
    if able is None or minutes is None:
        raise PluginError(f"{path.name} does not open with **You will be able to** … Some … minutes")
    pictures = sorted((ROOT / "docs" / "tutorials" / "pictures").glob("*.svg"))
    picture = next((file.name for file in pictures if file.stem in path.stem), "lesson.svg")
    parts = [
        f"[![](pictures/{picture})]({path.name}){{ .card-picture tabindex=-1 }}",
        f"**[{_title(path)}]({path.name})**{{ .card-title }}",
        f'<span class="card-time">{minutes[1]} minutes</span>',
        f"Afterwards you can {able[1]}",
    ]
    return '<div class="card" markdown>\n\n' + "\n\n".join(parts) + "\n\n</div>"


def claims() -> str:
    """The page of the claims: first the table of verdicts, with the words of each claim and the paper that makes it."""
    text = (ROOT / "sideways" / "studies" / "claims" / "README.md").read_text(encoding="utf-8")
    before, table, after = re.split(r"(?<=\n\n)(\| claim \| verdict \|.*?\n)(?=\n)", text, maxsplit=1, flags=re.DOTALL)
    title, *commands, measured = before.strip().split("\n\n")
    rows = [[cell.strip() for cell in line.strip("|").split(" | ", 2)] for line in table.splitlines()[2:]]
    kinds = [_kind(words) for _, words, _ in rows]
    yes, part, no = (kinds.count(kind) for kind in ("yes", "part", "no"))
    tally = f"**{yes} claims hold, {part} hold in part, {no} do not hold here.**"
    shown = [f"| {_claim(name)} | {_verdict(words)} | {number} |" for name, words, number in rows]
    results = "\n".join(["| claim | verdict | number |", "|---|---|---|", *shown])
    return "\n\n".join([title, tally, measured, results, after.strip(), "## How they are checked", *commands])


def _claim(name: str) -> str:
    return f"`{name}`<br>{CLAIMS[name].words} *({CLAIMS[name].source})*"


def _verdict(words: str) -> str:
    word, _, rest = words.partition(";")
    return f'<span class="verdict {_kind(words)}">{word}</span> {rest}'


def _kind(verdict: str) -> str:
    words = {"holds in part": "part", "holds": "yes", "does not hold here": "no"}
    return next(kind for word, kind in words.items() if verdict.startswith(word))


SOURCES = {
    "tutorials": tutorials,
    "claims": claims,
    "recipes": recipes,
    "models": models,
    "commands": commands,
    "mpi": mpi_help,
}
