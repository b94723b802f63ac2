"""Give a notebook the form in which it is saved: result marks out of sight, predictions before what they are about.

An author writes plain cells: `# result: within 0.02` as the first line of a result cell, and `**Predict.** …` as a
paragraph of its own. `fold` makes this form of them, and leaves a notebook that has it as it is:

- A mark is moved from the source of its cell into the metadata, under `result`, where no reader sees it.
- A question stands alone in a cell with the tag `predict`, with the list or table that follows it. A cell with the tag
  `guess` comes next, for the reader's own words.
- The tag `reveal` marks the cells that answer a question: from the first code cell after the question to the next
  heading or question. Where an author has set the tag by hand on any cell between two questions, no other is set there.
- The path of a file of the project, in code font, becomes a link to the file, and "notebook 3" a link to that notebook.
- Code with the tag `reveal` or `answer` is saved with source and outputs hidden, which JupyterLab opens by a click.
  Text with the tag `reveal` becomes a `<details>` element: JupyterLab shows the first line of hidden text.

`.venv/bin/python tests/notebooks.py --fold 05` does this to notebook 5, and so does running it without `--fold`.
"""

import copy
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
MARK = re.compile(r"# result: (.+)\n?")
QUESTION = re.compile(r"^\*\*Predict", re.MULTILINE)
HEADING = re.compile(r"^#+ ", re.MULTILINE)
LIST = re.compile(r"\s*([-*|]|\d+\.) ?")
PATH = re.compile(r"(?<!\[)`((?:sideways|tests|docs|tutorials)/[\w./-]+?/?)`(?!\])")
LINKED = r"(?:\d+b?|\[\d+b?\]\([^)]*\)b?)"
NUMBERS = re.compile(rf"(?i:\bnotebooks?) {LINKED}(?:,? and {LINKED})?")
GUESS = "*Your guess (double-click to write):*"
OPENING = "<details><summary>What it shows</summary>\n\n"
CLOSING = "\n\n</details>"


def fold(notebook):
    """A copy of the notebook in the form in which it is saved."""
    notebook = copy.deepcopy(notebook)
    cells = [part for cell in map(_move_mark, notebook["cells"]) for part in _set_apart_questions(cell)]
    notebook["cells"] = [_link(_hide(cell)) for cell in _tag_what_answers(_add_guesses(cells))]
    return notebook


def source(cell):
    """The text of a cell."""
    return "".join(cell["source"])


def tags(cell):
    """The tags of a cell."""
    return cell["metadata"].get("tags", [])


def _move_mark(cell):
    if cell["cell_type"] == "code" and (mark := MARK.match(source(cell))):
        cell["metadata"]["result"] = mark[1]
        _set_source(cell, source(cell)[mark.end() :])
    return cell


def _set_apart_questions(cell):
    """The cell, or two or more: the text before its first question, the question, and what follows it."""
    if cell["cell_type"] != "markdown" or "predict" in tags(cell) or not (found := QUESTION.search(source(cell))):
        return [cell]
    before, after = source(cell)[: found.start()], source(cell)[found.start() :].split("\n\n")
    end = 1
    while end < len(after) and LIST.match(after[end]):
        end += 1
    question = _markdown(f"{cell['id']}-predict", "\n\n".join(after[:end]), "predict")
    rest = _markdown(f"{cell['id']}-rest", "\n\n".join(after[end:]), *tags(cell))
    _set_source(cell, before.strip())
    parts = [cell, question, *_set_apart_questions(rest)]
    return [part for part in parts if source(part)]


def _add_guesses(cells):
    for cell, following in zip(cells, [*cells[1:], None], strict=True):
        yield cell
        if "predict" in tags(cell) and not (following and "guess" in tags(following)):
            yield _markdown(f"{cell['id']}-guess", GUESS, "guess")


def _tag_what_answers(cells):
    group = []  # the cells from a question to the next
    for cell in cells:
        if "predict" in tags(cell):
            yield from _tag_group(group)
            group = []
        group.append(cell)
    yield from _tag_group(group)


def _tag_group(cells):
    """Tag the cells that answer the question with which the group begins, unless the author has done so."""
    if not cells or "predict" not in tags(cells[0]) or any("reveal" in tags(cell) for cell in cells):
        return cells
    code = next((k for k, cell in enumerate(cells) if cell["cell_type"] == "code"), len(cells))
    tagged = cells[:code]
    for k, cell in enumerate(cells[code:], code):
        heading = HEADING.search(source(cell)) if cell["cell_type"] == "markdown" else None
        if heading is None:
            tagged.append(_tag(cell, "reveal"))
            continue
        if answer := source(cell)[: heading.start()].strip():
            tagged.append(_markdown(f"{cell['id']}-reveal", answer, "reveal"))
            _set_source(cell, source(cell)[heading.start() :])
        return tagged + cells[k:]
    return tagged


def _hide(cell):
    if cell["cell_type"] == "code" and {"reveal", "answer"} & set(tags(cell)):
        cell["metadata"]["jupyter"] = {"outputs_hidden": True, "source_hidden": True}
    elif "reveal" in tags(cell) and not source(cell).startswith("<details>"):
        _set_source(cell, OPENING + source(cell) + CLOSING)
    return cell


def _link(cell):
    if cell["cell_type"] == "markdown":
        _set_source(cell, NUMBERS.sub(_link_numbers, PATH.sub(_link_path, source(cell))))
    return cell


def _link_path(match):
    return f"[{match[0]}](../{match[1]})" if (ROOT / match[1]).is_file() else match[0]


def _link_numbers(match):
    """Link each number of "notebook 3" or "notebooks 4 and 5", also where it was a link to another notebook before."""
    return re.sub(
        r"\[(\d+b?)\]\([^)]*\)(b?)|\d+b?",
        lambda number: _notebook((number[1] or number[0]) + (number[2] or "")),
        match[0],
    )


def _notebook(number):
    paths = [path.name for path in (ROOT / "tutorials").glob(f"{number.zfill(2 + number.endswith('b'))}_*.ipynb")]
    return f"[{number}]({paths[0]})" if paths else number


def _tag(cell, tag):
    cell["metadata"]["tags"] = [*tags(cell), tag]
    return cell


def _markdown(name, text, *its_tags):
    cell = {"cell_type": "markdown", "id": name[:64], "metadata": {"tags": list(its_tags)} if its_tags else {}}
    return cell | {"source": text.splitlines(keepends=True)}


def _set_source(cell, text):
    cell["source"] = text.splitlines(keepends=True)
