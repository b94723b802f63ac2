"""A wrapper for the scripts in this folder that run under mpirun: when one rank fails, all end."""

import sys
import time
import traceback

from mpi4py import MPI


def together(main):
    """Run `main`. If it raises, print the traceback and end all ranks, which would wait for this one for ever."""
    try:
        main()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        time.sleep(0.5)
        MPI.COMM_WORLD.Abort(1)
