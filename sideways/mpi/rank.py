"""The process of a rank; `launch.start` runs it, with a watchdog as its parent."""

import sys
from typing import NoReturn

from sideways.mpi.launch import patience_of
from sideways.mpi.status import introduce
from sideways.mpi.world import WORLD


def run() -> NoReturn:
    """Train as the command line says, and end this process with the exit code of the job."""
    introduce(WORLD, patience_of(sys.argv[1:]))  # before the imports below, which may take some ranks long
    from sideways.mpi.training import Job

    sys.exit(Job().run())


if __name__ == "__main__":
    run()
