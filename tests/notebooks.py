"""Runs a tutorial in a clean kernel, and compares its marked result cells with the saved ones.

A result cell says in its first line how near its numbers must come: `# result: exact`, `# result: within 0.02` or
`# result: within 5 %` (of the saved number). All else that it prints must be the same.

`.venv/bin/python tests/notebooks.py 05` runs a notebook that was changed, and saves it with its new outputs.
"""

import copy
import json
import re
import sys
from pathlib import Path

TUTORIALS = Path(__file__).parent.parent / "tutorials"
NOTEBOOKS = sorted(TUTORIALS.glob("*.ipynb"))
MARK = re.compile(r"# result: (?:exact|within (?P<size>[0-9.e-]+)(?P<percent> %)?)$")
NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|nan|inf)(?!\w)")  # none in a name such as conv1


def read(path):
    """The notebook as it is saved: JSON."""
    return json.loads(path.read_text(encoding="utf-8"))


def source(cell):
    return "".join(cell["source"])


def results(notebook):
    """The result cells, in order. Raises `ValueError` for a mark that cannot be read."""
    marked = [cell for cell in notebook["cells"] if source(cell).startswith("# result")]
    for cell in marked:
        if cell["cell_type"] != "code" or not MARK.fullmatch(source(cell).splitlines()[0]):
            raise ValueError(f"not a mark of a result cell: {source(cell).splitlines()[0]!r}")
    return marked


def text(cell):
    """What a code cell printed or returned, without figures."""
    parts = []
    for output in cell["outputs"]:
        if output["output_type"] == "stream" and output["name"] == "stdout":
            parts.append("".join(output["text"]))
        elif output["output_type"] == "execute_result":
            parts.append("".join(output["data"].get("text/plain", "")))
    return "\n".join(parts)


def differences(saved, fresh):
    """What is no longer as it was saved, in the result cells of two executions of a notebook."""
    found = []
    old, new = results(saved), results(fresh)
    if [source(cell) for cell in old] != [source(cell) for cell in new]:
        return ["the result cells themselves are others"]
    for cell, other in zip(old, new, strict=True):
        mark = source(cell).splitlines()[0]
        said, says = text(cell), text(other)
        if _words(said) != _words(says):
            found.append(f"{mark}: saved {said!r}, now {says!r}")
            continue
        for a, b in zip(NUMBER.findall(said), NUMBER.findall(says), strict=True):
            if not _near(float(a), float(b), mark):
                found.append(f"{mark}: saved {a}, now {b}, in {says!r}")
    return found


def _words(printed):
    """All but the numbers and the width of gaps, which follows from them."""
    return NUMBER.sub("#", printed).split()


def _near(a, b, mark):
    size, percent = MARK.fullmatch(mark).group("size", "percent")
    tolerance = float(size or 0) * (abs(a) / 100 if percent else 1)
    return a == b or (a != a and b != b) or abs(a - b) <= tolerance


def execute(path):
    """The notebook after a run in a kernel of its own, started in the notebook's folder: what a save would hold."""
    import nbformat  # only here: the comparison itself needs no Jupyter
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    about = copy.deepcopy(notebook.metadata)  # the kernel adds the version of its Python
    place = {"metadata": {"path": str(path.parent)}}
    options = {"coalesce_streams": True, "record_timing": False, "resources": place}
    NotebookClient(notebook, timeout=500, kernel_name="python3", **options).execute()
    notebook.metadata = about
    return json.loads(nbformat.writes(notebook))


def main():
    """`python tests/notebooks.py 05 …` runs these notebooks, and saves them with their new outputs."""
    for number in sys.argv[1:]:
        (path,) = TUTORIALS.glob(f"{number}*.ipynb")
        fresh = execute(path)
        path.write_text(json.dumps(fresh, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"{path.name} saved")


if __name__ == "__main__":
    main()
