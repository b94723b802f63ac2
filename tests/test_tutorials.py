"""Tutorials: run from a clean kernel, each still prints its saved results. `pytest -m tutorials` runs them."""

import base64
import copy
import io
import re
import resource
import time

import pytest
from folding import fold, source, tags
from hypothesis import assume, given
from hypothesis import strategies as st
from notebooks import NOTEBOOKS, NUMBER, TUTORIALS, differences, execute, read, results, text
from PIL import Image

EACH = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
SECONDS = 60  # a notebook may take so long; of processor time, if the machine is busy with other work


@pytest.mark.tutorials
@EACH
def test_a_clean_kernel_gives_the_saved_results_within_a_minute(path):
    start = time.perf_counter(), processor_seconds()
    fresh = execute(path)
    seconds = time.perf_counter() - start[0], processor_seconds() - start[1]
    assert differences(read(path), fresh) == []
    assert min(seconds) < SECONDS


def processor_seconds():
    """The processor time so far of all processes that this one has started, and of those that they have started."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@EACH
def test_the_saved_outputs_are_those_of_one_run_from_top_to_bottom(path):
    code = [cell for cell in read(path)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert not [output for cell in code for output in cell["outputs"] if output["output_type"] == "error"]
    assert not [output for cell in code for output in cell["outputs"] if output.get("name") == "stderr"]


@EACH
def test_every_result_cell_says_how_near_it_must_come_and_prints_a_number_or_a_truth(path):
    marked = results(read(path))
    assert len(marked) >= 3
    for cell in marked:
        assert NUMBER.search(text(cell)) or "True" in text(cell)
        assert "False" not in text(cell)


@EACH
def test_it_opens_with_what_it_teaches_has_folded_answers_and_ends_with_files_that_are_there(path):
    cells = read(path)["cells"]
    first, last = source(cells[0]), source(cells[-1])
    assert first.startswith("# ") and "**You will be able to**" in first and "**You need**" in first
    assert sum(source(cell).count("<details><summary>Answer") for cell in cells) >= 2
    assert "## Read next" in last
    named = re.findall(r"`((?:sideways|mpi|tests|tutorials)/[\w./]+)`", last)
    assert named
    assert [name for name in named if not (TUTORIALS.parent / name).exists()] == []


@EACH
def test_figures_are_sharp_and_have_no_ground_so_that_they_suit_a_dark_page(path):
    cells = read(path)["cells"]
    assert any("style_figures(" in source(cell) for cell in cells)
    outputs = [output for cell in cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]
    assert outputs
    for output in outputs:
        with Image.open(io.BytesIO(base64.b64decode("".join(output["data"]["image/png"])))) as picture:
            assert picture.convert("RGBA").getpixel((0, 0))[3] == 0
            assert picture.width // 2 == output["metadata"]["image/png"]["width"]
    assert path.stat().st_size < 450_000


# Predictions --------------------------------------------------------------------------------------------------------


def hidden(cell):
    """Whether no reader sees this cell before opening it."""
    if cell["cell_type"] == "markdown":
        return source(cell).startswith("<details><summary>") and source(cell).endswith("</details>")
    return cell["metadata"].get("jupyter") == {"outputs_hidden": True, "source_hidden": True}


@EACH
def test_a_notebook_is_saved_in_the_form_that_hides_marks_and_answers(path):
    assert fold(read(path)) == read(path)
    assert not [cell for cell in read(path)["cells"] if "# result" in source(cell)]


@EACH
def test_no_saved_notebook_shows_an_answer_unasked(path):
    cells = read(path)["cells"]
    assert [cell["id"] for cell in cells if {"reveal", "answer"} & set(tags(cell)) and not hidden(cell)] == []
    assert "<details open" not in "".join(map(source, cells))
    questions = [k for k, cell in enumerate(cells) if "predict" in tags(cell)]
    asked = "".join(source(cell) for cell in cells if cell["cell_type"] == "markdown").count("**Predict")
    assert len(questions) == asked
    for k, following in zip(questions, [*questions[1:], len(cells)], strict=True):
        assert source(cells[k]).startswith("**Predict") and "guess" in tags(cells[k + 1])
        answer = next(j for j in range(k + 2, following) if "reveal" in tags(cells[j]))
        assert [cell["id"] for cell in cells[k:answer] if cell["cell_type"] == "code"] == []


@EACH
def test_every_link_of_a_notebook_leads_to_a_file(path):
    words = "\n".join(source(cell) for cell in read(path)["cells"] if cell["cell_type"] == "markdown")
    targets = re.findall(r"(?<=\]\()(?!https?:)[^)\s$]+(?=\))", words)
    assert len(targets) >= 3
    assert [target for target in targets if not (TUTORIALS / target).exists()] == []


TEXTS = st.lists(
    st.sampled_from(
        ["**Predict.** How many?", "1. one", "# Heading", "Text.", "See `sideways/models.py`.", "Notebook 3."]
    ),
    min_size=1,
    max_size=5,
)


@st.composite
def drafts(draw):
    """A notebook as an author may write it, of cells of text and of code that each print a text of their own."""
    cells = [{"cell_type": "markdown", "id": "0", "metadata": {}, "source": ["# Title\n"]}]
    for k in range(1, draw(st.integers(1, 9))):
        cell = {"id": str(k), "metadata": {}}
        if draw(st.booleans()):
            cells.append(cell | {"cell_type": "markdown", "source": ["\n\n".join(draw(TEXTS))]})
        else:
            mark = draw(st.sampled_from(["", "# result: exact\n"]))
            cells.append(cell | {"cell_type": "code", "source": [f"{mark}print({k})"], "outputs": [f"<{k}>"]})
    return {"cells": cells}


@given(drafts())
def test_folding_hides_what_is_printed_between_a_question_and_the_first_heading_after_it(draft):
    asked, answered, visible, hidden_outputs = False, False, set(), set()
    for cell in draft["cells"]:
        for paragraph in source(cell).split("\n\n") if cell["cell_type"] == "markdown" else ():
            if paragraph.startswith("**Predict"):
                asked, answered = True, False
            elif paragraph.startswith("#") and answered:
                asked = False
        if cell["cell_type"] == "code":
            answered = True
            (hidden_outputs if asked else visible).add(cell["outputs"][0])
    folded = [cell for cell in fold(draft)["cells"] if cell["cell_type"] == "code"]
    assert {cell["outputs"][0] for cell in folded if hidden(cell)} == hidden_outputs
    assert {cell["outputs"][0] for cell in folded if not hidden(cell)} == visible
    assert not [cell for cell in folded if "# result" in source(cell)]


@given(drafts())
def test_folding_twice_is_folding_once_and_no_word_is_lost(draft):
    once = fold(draft)
    assert fold(once) == once
    words = re.sub(r"\s|`|\[|\]\([^)]*\)", "", "".join(map(source, once["cells"])))
    for cell in draft["cells"]:
        for line in source(cell).replace("# result: exact\n", "").split("\n\n"):
            assert re.sub(r"\s|`", "", line) in words
    names = [cell["id"] for cell in once["cells"]]
    assert len(set(names)) == len(names)


# How results are compared ---------------------------------------------------------------------------------------------


def notebook(mark, printed):
    """A notebook of one result cell with this mark and output."""
    output = {"output_type": "stream", "name": "stdout", "text": printed}
    cell = {"cell_type": "code", "metadata": {"result": mark}, "source": "print(…)", "outputs": [output]}
    return {"cells": [cell]}


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.sampled_from([0.0, 1e-3, 0.5, 40.0]))
def test_a_number_passes_exactly_when_it_is_within_the_absolute_tolerance(a, b, tolerance):
    saved, fresh = (notebook(f"within {tolerance}", f"loss {value!r}") for value in (a, b))
    assert (differences(saved, fresh) == []) == (abs(a - b) <= tolerance)


@given(st.floats(1, 1e6), st.floats(0, 0.2))
def test_a_number_passes_exactly_when_it_is_within_its_percentage(a, part):
    assume(abs(part - 0.05) > 1e-9)
    saved, fresh = (notebook("within 5 %", f"conv1 {value!r} ms") for value in (a, a * (1 + part)))
    assert (differences(saved, fresh) == []) == (part < 0.05)


def test_exact_means_every_digit_and_every_word():
    assert differences(notebook("exact", "True 0.25"), notebook("exact", "True   0.25")) == []
    assert differences(notebook("exact", "True 0.25"), notebook("exact", "True 0.26")) != []
    assert differences(notebook("exact", "True 0.25"), notebook("exact", "False 0.25")) != []
    assert differences(notebook("within 1", "conv1 0.25"), notebook("within 1", "conv2 0.25")) != []
    assert differences(notebook("within 1", "1 2 3"), notebook("within 1", "1 2")) != []


def test_nan_equals_only_nan():
    assert differences(notebook("within 9", "PSNR nan"), notebook("within 9", "PSNR nan")) == []
    assert differences(notebook("within 9", "PSNR nan"), notebook("within 9", "PSNR 1.0")) != []


def test_a_mark_that_cannot_be_read_is_refused():
    with pytest.raises(ValueError, match="not a mark"):
        differences(notebook("roughly", "1"), notebook("roughly", "1"))


@EACH
def test_a_saved_result_that_is_changed_by_a_tenth_no_longer_passes(path):
    saved = read(path)
    changed = copy.deepcopy(saved)
    for cell in results(changed):
        for output in cell["outputs"]:
            for key, holder in (("text", output), ("text/plain", output.get("data", {}))):
                if key in holder:
                    holder[key] = re.sub(NUMBER, lambda n: str(1.1 * float(n[0]) + 100), "".join(holder[key]))
    assert differences(saved, saved) == []
    assert differences(saved, changed) != []
