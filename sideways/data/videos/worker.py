"""A decoding process, started by a `Loader` as `python -m sideways.data.videos.worker PIPE MEMORY BYTES`.

PIPE and MEMORY are file descriptors; BYTES is the size of the shared memory.
"""

from __future__ import annotations

import pickle
import signal
import sys
from multiprocessing.connection import Connection

from sideways.data.videos.decoder import Decoder
from sideways.data.videos.loader import memory_of
from sideways.data.videos.processes import end_with_parent


def main() -> None:
    """Decode one sample after the other into the shared memory, until the other end of the pipe is closed."""
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # after Ctrl-C, the run ends its workers itself
    pipe = Connection(int(sys.argv[1]))
    try:
        decoder: Decoder = pipe.recv()
        slots = memory_of(int(sys.argv[2]), int(sys.argv[3])).reshape(-1, *decoder.shape)
        pipe.send(None)  # this process is ready
        while True:
            for job, order, slot in pipe.recv():
                sample = decoder.sample(order)
                slots[slot] = sample.frames
                pipe.send((job, sample.skipped, sample.usable))
    except (EOFError, BrokenPipeError, ConnectionResetError, pickle.UnpicklingError):
        return


if __name__ == "__main__":
    main()
