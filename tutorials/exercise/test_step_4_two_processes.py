"""Step 4: two processes end with the bits of one. `two_processes.py` is started under mpirun, as a student may."""

import os
import re
from pathlib import Path

import pytest

from sideways.studies.mpirun import command_of, run_within

PROGRAM = str(Path(__file__).parent / "two_processes.py")
ROOT = Path(__file__).parent.parent.parent
LIMIT = 300  # seconds, for a machine that is busy; a standstill is ended long before


@pytest.mark.parametrize("size", ["small", "large"], ids=["small-messages", "messages-of-a-megabyte"])
def test_two_processes_end_with_the_bits_of_one(mine, size, request):
    patience = request.config.getoption("--patience")
    options = [*(["--large"] if size == "large" else []), "--patience", str(patience)]
    here = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])  # this clone's library
    job = run_within(LIMIT, command_of(2, PROGRAM, mine.path, *options), {**os.environ, "PYTHONPATH": here})
    if job.code == 0 and "two processes end with the bits of one" in job.output:
        return
    raise AssertionError(
        told(job.errors, mine.path) or f"mpirun ended with exit code {job.code}:\n{job.output}{job.errors}"
    )


def told(errors, path):
    """What the errors of a job say to the student who wrote the file `path`, without the words of MPI."""
    if "Timeout (" in errors:
        lines = re.findall(rf'File "{re.escape(path)}", line \d+ in \w+', errors)
        places = "\n".join(f"    {line}" for line in sorted(set(lines)))
        return (
            "The two processes wait for each other. They stand here:\n"
            f"{places}\n"
            "Is every message that one process waits for sent by the other, at the same tick and with the same tag?\n"
            "And is everything started (Isend, Irecv) before anything is waited for?"
        )
    said = {}
    for rank, words in re.findall(r"^rank (\d) \| (.*)", errors, re.MULTILINE):  # the other lines are those of MPI
        said.setdefault(rank, []).append(words)
    return "\n".join({"\n".join(lines): None for lines in said.values()})
