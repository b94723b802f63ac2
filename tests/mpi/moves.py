"""Run under mpirun with two ranks: large messages arrive while both ranks are busy with other units.

Pauses stand for the passes of these units, between which the ranks look for messages of other edges. The receiver
looks into its buffer without having waited for the message. Each rank prints `ok`, and the receiver how long it waits
for a message in the end: the median of all messages, and the extremes.
"""

import os
import time

import numpy as np
from mpi4py import MPI
from together import together

from sideways.models import build_model
from sideways.mpi.mailbox import MPIMailbox

WORLD = MPI.COMM_WORLD
TICKS, PASSES = 11, 40


def main():
    network = build_model("vgg8", (112, 112, 3), 10)
    owner = {name: int(name != "conv1") for name in network.units}
    mailbox = MPIMailbox(network, network.timetable, owner, 8, WORLD.Dup(), None)
    message = np.ones((8, *network.units["conv1"].output_shape), np.float32)
    assert message.nbytes > 6e6
    waits = []
    for t in range(TICKS):
        mailbox.begin(t)
        if WORLD.Get_rank() == 1:
            channel = mailbox.incoming["conv1", "conv2"]
            buffer = channel.buffers[channel.messages[t]]
            buffer[...] = 0
        WORLD.Barrier()
        if WORLD.Get_rank() == 0:
            mailbox.send("conv1", "conv2", message, t)
        for _ in range(PASSES):
            time.sleep(0.005)
            mailbox.receive("conv3", "conv4", -1)
        if WORLD.Get_rank() == 1:
            assert buffer.all()
            start = time.perf_counter()
            channel.wait(channel.messages[t])
            waits.append(1e3 * (time.perf_counter() - start))
            mailbox.receive("conv1", "conv2", t)
        mailbox.end()
    said = f"ok, waited {sorted(waits)[TICKS // 2]:.3f} ms ({min(waits):.3f} to {max(waits):.3f})" if waits else "ok"
    WORLD.Barrier()
    os.write(1, f"{said}\n".encode())  # in one piece: both ranks write at once


if __name__ == "__main__":
    together(main)
