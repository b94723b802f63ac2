"""Run a tutorial in a clean kernel, and compare its marked result cells with the saved ones.

The metadata of a result cell say under `result` how much its numbers may differ from the saved ones: `exact`,
`within 0.02` or `within 5 %` (of the saved number). Everything else in its output must be equal. Authors write the mark
as the first line of the cell, `# result: exact`; folding.py moves it, and folds away what answers a question.

After you have changed a notebook, `.venv/bin/python tests/notebooks.py 05` runs it and saves it with its new outputs.
With `--fold` before the numbers, the notebooks are not run: only their form is changed.
"""

import copy
import json
import re
import sys
from pathlib import Path

from folding import fold, source

TUTORIALS = Path(__file__).parent.parent / "tutorials"
NOTEBOOKS = sorted(TUTORIALS.glob("*.ipynb"))
MARK = re.compile(r"(?:exact|within (?P<size>[0-9.e-]+)(?P<percent> %)?)$")
NUMBER = re.compile(
    r"(?<![\w.])[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|nan|inf)(?!\w)"
)  # but not the digit of a name such as conv1


def read(path):
    """Load a notebook as JSON."""
    return json.loads(path.read_text(encoding="utf-8"))


def results(notebook):
    """The result cells, in order. Raises `ValueError` for a mark that cannot be read."""
    marked = [cell for cell in notebook["cells"] if "result" in cell["metadata"]]
    for cell in marked:
        if cell["cell_type"] != "code" or not MARK.fullmatch(mark_of(cell)):
            raise ValueError(f"not a mark of a result cell: {mark_of(cell)!r}")
    return marked


def mark_of(cell):
    """How near the numbers of a result cell must come to the saved ones: `exact`, `within 0.02`, `within 5 %`."""
    return cell["metadata"]["result"]


def text(cell):
    """The text that a code cell printed or returned, without figures and films."""
    parts = []
    for output in cell["outputs"]:
        if output["output_type"] == "stream" and output["name"] == "stdout":
            parts.append("".join(output["text"]))
        elif output["output_type"] == "execute_result" and "text/html" not in output["data"]:
            parts.append("".join(output["data"].get("text/plain", "")))
    return "\n".join(parts)


def differences(saved, fresh):
    """The differences between the result cells of two executions of a notebook, one line each."""
    lines = []
    saved_cells, fresh_cells = results(saved), results(fresh)
    if [(mark_of(cell), source(cell)) for cell in saved_cells] != [(mark_of(c), source(c)) for c in fresh_cells]:
        return ["the source of the result cells has changed"]
    for saved_cell, fresh_cell in zip(saved_cells, fresh_cells, strict=True):
        mark = mark_of(saved_cell)
        old, new = text(saved_cell), text(fresh_cell)
        if _words(old) != _words(new):
            lines.append(f"{mark}: saved {old!r}, now {new!r}")
            continue
        for a, b in zip(NUMBER.findall(old), NUMBER.findall(new), strict=True):
            if not _near(float(a), float(b), mark):
                lines.append(f"{mark}: saved {a}, now {b}, in {new!r}")
    return lines


def _words(printed):
    """The words of an output, each number replaced by #. The width of gaps is dropped: it depends on the numbers."""
    return NUMBER.sub("#", printed).split()


def _near(a, b, mark):
    """Whether b is as near to the saved number a as the mark demands. NaN is near to NaN only."""
    size, percent = MARK.fullmatch(mark).group("size", "percent")
    tolerance = float(size or 0) * (abs(a) / 100 if percent else 1)
    return a == b or (a != a and b != b) or abs(a - b) <= tolerance


def execute(path):
    """Run a notebook in a kernel of its own, in the notebook's folder. Returns the JSON that saving would write."""
    import nbformat  # imported here, because comparing notebooks needs no Jupyter
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    metadata = copy.deepcopy(notebook.metadata)  # saved now: the kernel adds the version of its Python
    folder = {"metadata": {"path": str(path.parent)}}
    options = {"coalesce_streams": True, "record_timing": False, "resources": folder}
    NotebookClient(notebook, timeout=500, kernel_name="python3", **options).execute()
    notebook.metadata = metadata
    return json.loads(nbformat.writes(notebook))


def main():
    """Run the notebooks with the numbers on the command line, if they are to be run, and save them in their form."""
    arguments = sys.argv[1:]
    only_fold = "--fold" in arguments
    for number in [argument for argument in arguments if argument != "--fold"]:
        (path,) = TUTORIALS.glob(f"{number}_*.ipynb")
        fresh = fold(read(path) if only_fold else execute(path))
        path.write_text(json.dumps(fresh, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"{path.name} saved")


if __name__ == "__main__":
    main()
