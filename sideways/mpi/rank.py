"""The process of a rank; `launch.start` runs it, with a watchdog as its parent."""

import sys

from sideways.mpi.training import Job

if __name__ == "__main__":
    sys.exit(Job().run())
