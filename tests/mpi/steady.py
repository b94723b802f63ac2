"""Run under mpirun with the device double: count what each rank copies and waits for in a tick of the steady state.

`mpirun -n K python steady.py staged|cuda-aware|nccl sideways|N`; N: Delayed, which learns from the loss of one tick in
N. Each rank prints a line: `rank: ok`, or `rank: ` and what is wrong.
"""

import os
import sys
from functools import partial

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import cupy  # the double
import numpy as np
from double.clock import clock
from double.messages import Watched
from mpi4py import MPI
from together import together

import sideways as sw
from sideways.models import build_model
from sideways.mpi.mailbox import MPIMailbox
from sideways.mpi.nccl import NCCLMailbox, peers_of
from sideways.training.prefetch import Prefetch

WORLD = MPI.COMM_WORLD


def reads(network, edge, tick, n):
    """The messages on an edge that its receiver reads at this tick, from the definition of the rules."""
    sender, receiver = edge
    if not n or sender in network.units[receiver].inputs:
        return 1  # in the steady state: that of the last tick
    latency, lengths = network.latency, network.path_lengths

    def last(name, s):  # the last marked loss that depends on the unit's activation of tick s
        return max((s + k for k in lengths[name] if (s + k - latency) % n == 0), default=None)

    ends = {s: last(receiver, s) for s in range(tick - 2 * latency, tick + 1)}
    return sum(end is not None and 2 * end - s == tick and last(sender, s + 1) is not None for s, end in ends.items())


def buffers_of(mailbox):
    """How many buffers each channel has."""
    if isinstance(mailbox, NCCLMailbox):
        return [len(channel.places) + len(channel.unused) for channel in mailbox.incoming.values()]
    return [len(channel.buffers) for channel in (*mailbox.incoming.values(), *mailbox.outgoing.values())]


def uploaded(mailbox):
    """How many messages are on the device that nobody has read."""
    return sum(len(getattr(channel, "uploads", ())) for channel in mailbox.incoming.values())


def main():
    mode, n = sys.argv[1], 0 if sys.argv[2] == "sideways" else int(sys.argv[2])
    sw.use_backend("cupy")
    network = build_model("vgg5-skip", (8, 8, 1), 4, width=4)
    number, names = WORLD.Get_rank(), list(network.units)
    parts = np.array_split(np.arange(len(names)), WORLD.Get_size())
    owner = {names[i]: rank for rank, part in enumerate(parts) for i in part}
    own_units = [name for name in names if owner[name] == number]
    comm = Watched(WORLD.Dup())
    timetable = partial(network.timetable, marks=network.marks(n) if n else None)
    staged, by_nccl = mode == "staged", mode == "nccl"
    if by_nccl:
        mailbox = NCCLMailbox(network, timetable, owner, number, 2, peers_of(comm))
    else:
        mailbox = MPIMailbox(network, timetable, owner, 2, comm, None, in_place=not staged, nap=True)
    options = {"boundary": "stream", "mailbox": mailbox, "units": own_units} | ({"learn_every": n} if n else {})
    rule = (sw.Delayed if n else sw.Sideways)(network, sw.SoftmaxCrossEntropy(), sw.Adam(1e-3), **options)
    reads_frame = any("frame" in network.units[name].inputs for name in own_units)
    owns_top, none = network.top.name in own_units, [None] * 24
    frames = np.random.default_rng(0).normal(size=(24, 2, 8, 8, 1)) if reads_frame else none
    labels = np.zeros((24, 2), int) if owns_top else none
    prefetch, wrong, downloads, due_before = Prefetch(rule), [], [], 0
    ahead = 0  # messages that were uploaded while older work was under way
    clock.journal, clock.advances = [], False  # a device as slow as can be: every wait shows
    for clip in range(2):
        for t, frame, target in prefetch.pairs(frames, labels):
            due = sum(timetable(edge, rule.clock) is not None for edge in mailbox.outgoing)
            read = sum(reads(network, edge, rule.clock, n) for edge in mailbox.incoming)
            arrive = sum(timetable(edge, rule.clock) is not None for edge in mailbox.incoming)
            buffers, work_before, waiting = buffers_of(mailbox), clock.current.count, uploaded(mailbox)
            sent_before = comm.started
            with clock.counted() as counts:
                rule.tick(frame, target, prefetch.fetch)
            sent = comm.started - sent_before
            downloads += [
                (clock.current.count - known[clock.current.number], known[clock.current.number] - work_before)
                for copy, stream, _, known in clock.journal
                if copy != "an upload" and stream is not clock.current
            ]
            of_messages = [
                known.get(clock.current.number, 0)
                for copy, stream, _, known in clock.journal
                if staged and copy == "an upload" and stream is mailbox.uploads._stream
            ]
            ahead += sum(known < work_before for known in of_messages)
            clock.journal.clear()
            expected = {
                "upload": reads_frame + owns_top + (read + uploaded(mailbox) - waiting if staged else 0),
                "download": sent if staged else 0,
                # Once for each message it sends; and for the device to be done with the tick before the last, whose
                # buffers receive again, if no message of the last tick has shown that it is.
                # By NCCL once: the host keeps at most two ticks ahead.
                "synchronise": 1 if by_nccl else sent + (not due_before),
                "pinned": 0,
            }
            counted = {key: counts[key] for key in expected}
            if clip and t < 23 and (sent != (0 if by_nccl else due) or counted != expected):
                wrong.append(f"tick {t}: {counted}, not {expected}; sent {sent}, not {due}")
            if by_nccl and counts["group"] != (due + arrive > 0):
                wrong.append(f"tick {t}: {counts['group']} groups for {due} + {arrive} messages")
            if clip and buffers != buffers_of(mailbox):
                wrong.append(f"tick {t}: a buffer was added")
            due_before = due
    if staged and mailbox.incoming and not ahead:
        wrong.append("every message was uploaded only when the work before it was done")
    if not by_nccl and not any(after > 0 and before > 0 for after, before in downloads):
        wrong.append("no message left before the end of its tick's work")
    mailbox.clear()
    mailbox.free()
    clock.finish()
    os.write(1, f"{number}: {'; '.join(wrong[:3]) or 'ok'}\n".encode())  # in one piece: the ranks write at once


assert cupy.__version__
if __name__ == "__main__":
    together(main)
