"""Tutorials: run from a clean kernel, each still prints its saved results. `pytest -m tutorials` runs them."""

import copy
import re
import resource
import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from notebooks import NOTEBOOKS, NUMBER, TUTORIALS, differences, execute, read, results, source, text

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


# How results are compared ---------------------------------------------------------------------------------------------


def notebook(mark, printed):
    """A notebook of one result cell with this mark and output."""
    output = {"output_type": "stream", "name": "stdout", "text": printed}
    return {"cells": [{"cell_type": "code", "source": f"# result: {mark}\nprint(…)", "outputs": [output]}]}


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
