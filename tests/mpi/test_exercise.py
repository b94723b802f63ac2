"""Step 4 of the exercise, in two processes: the solution passes, the scaffold does not, and mistakes are caught."""

import re

import pytest
from exercises import SCAFFOLD, SOLUTION, outcomes, written

pytestmark = pytest.mark.xdist_group("ranks")  # one job at a time: ranks wait by spinning

LARGE = ("blocking", "does-not-wait")  # mistakes that only messages of a megabyte are sure to show


def test_the_solution_in_two_processes_ends_with_the_bits_of_one(tmp_path):
    (results,) = outcomes(tmp_path, [SOLUTION], "-k", "step_4").values()
    assert len(results) == 2
    assert {name: message for name, message in results.items() if message} == {}


def test_who_has_not_written_a_method_yet_is_told_which(tmp_path):
    text = SOLUTION.read_text(encoding="utf-8")
    start, (line,) = (
        text.index("        mail, requests"),
        re.findall(r".*NotImplementedError.*Step 4.*", SCAFFOLD.read_text()),
    )
    almost = tmp_path / "almost.py"
    almost.write_text(f"{text[:start]}{line}\n", encoding="utf-8")
    results = outcomes(tmp_path, [SCAFFOLD, almost], "-k", "step_4 and small")
    for file, words in (
        (SCAFFOLD, "Step 3: write SkipSideways.tick."),
        (almost, "Step 4: write TwoProcessSideways.deliver."),
    ):
        (message,) = results[file.stem].values()
        assert words in message


@pytest.mark.parametrize("size", ["small", "megabyte"])
def test_every_well_known_mistake_between_processes_is_caught_and_a_standstill_is_shown(tmp_path, size):
    files = written(tmp_path, step=4)
    chosen = {file: mistake for file, mistake in files.items() if (mistake.name in LARGE) == (size == "megabyte")}
    caught = outcomes(tmp_path, chosen, "-k", f"step_4 and {size}", "--patience", "5")
    assert len(files) >= 8 and len(chosen) >= len(LARGE)
    for file, mistake in chosen.items():
        (message,) = caught[file.stem].values()
        assert message and mistake.lesson in message, mistake.name
        if mistake.lesson.startswith("The two processes wait"):
            assert re.search(r"line \d+ in deliver", message)
