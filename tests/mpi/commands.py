"""Run under mpirun: several command lines of `sideways.mpi`, one after the other in the same ranks, without plots.

`mpirun -n K python commands.py FILE`: the file holds the command lines as JSON, a list of lists. Rank 0 replaces it
with a list of (exit code of each rank, output of all ranks, errors of all ranks), one for each command line.
"""

import contextlib
import io
import json
import os
import sys
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"

from mpi4py import MPI
from together import together
from undrawn import draw_nothing

import sideways.mpi.training
from sideways.mpi.training import Job

WORLD = MPI.COMM_WORLD


def main():
    path = Path(sys.argv[1])
    lines, results = json.loads(path.read_text()), []
    sideways.mpi.training._finalize = WORLD.Barrier  # MPI goes on for the next command line
    draw_nothing()
    for line in lines:
        sys.argv[1:] = line
        output, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            code = Job().run()
        ranks = WORLD.gather((code, output.getvalue(), errors.getvalue()))
        if ranks:
            codes, outputs, complaints = zip(*ranks, strict=True)
            results.append((codes, "".join(outputs), "".join(complaints)))
    if WORLD.Get_rank() == 0:
        path.write_text(json.dumps(results))
    MPI.Finalize()  # `sideways.mpi` leaves that to the job; MPICH then names requests that nobody has freed


if __name__ == "__main__":
    together(main)
