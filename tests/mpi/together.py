"""What the scripts beside it share: all ranks end when one fails."""

import sys
import time
import traceback

from mpi4py import MPI


def together(main):
    """Run main; where it raises, print why and end the ranks that would wait for this one."""
    try:
        main()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        time.sleep(0.5)
        MPI.COMM_WORLD.Abort(1)
