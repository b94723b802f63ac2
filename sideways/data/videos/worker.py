"""Decode orders for a `Loader`: `python -m sideways.data.videos.worker PIPE MEMORY BYTES` (file descriptors)."""

from __future__ import annotations

import pickle
import signal
import sys
from multiprocessing.connection import Connection

from sideways.data.videos.decoder import Decoder
from sideways.data.videos.loader import memory_of


def main() -> None:
    """Samples into the shared memory, one after the other, until the other end of the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # after Ctrl-C it is the run that ends its workers
    pipe = Connection(int(sys.argv[1]))
    try:
        decoder: Decoder = pipe.recv()
        slots = memory_of(int(sys.argv[2]), int(sys.argv[3])).reshape(-1, *decoder.shape)
        while True:
            job, order, slot = pipe.recv()
            sample = decoder.sample(order)
            slots[slot] = sample.frames
            pipe.send((job, sample.skipped, sample.usable))
    except (EOFError, BrokenPipeError, ConnectionResetError, pickle.UnpicklingError):
        return


if __name__ == "__main__":
    main()
