"""Run a student's `TwoProcessSideways` in two processes: mpirun -n 2 python tutorials/exercise/two_processes.py

FILE            the student's file (default: my_sideways.py in this folder)
--large         graphs whose messages are a megabyte each, instead of small ones
--timing MS     measure a tick of a network of 8 units, each of which takes MS milliseconds, in one process and in two
--patience S    end after a standstill of S seconds (default 30), and show the lines at which the processes wait

The parameters of each process are compared with those of the library's Sideways in one process, to the last bit.
"""

import argparse
import faulthandler
import os
import sys
import time
import traceback
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from cases import arrays_of, chain, graph, history, wired
from comparison import difference_of_arrays
from mistakes import load
from mpi4py import MPI

import sideways as sw
from sideways.mpi.emulated import emulate

HERE = Path(__file__).parent
WORLD = MPI.COMM_WORLD
LEARNING = {"dtype": "float32", "optimizer": "Adam with a falling rate", "clips": 2}


def small_cases():
    """A chain, graphs with skip edges, and random graphs."""
    yield chain(4, loss="cross-entropy", seed=1, **LEARNING)
    yield wired(["frame", "unit1", "unit2", "unit3 unit1"], **LEARNING)
    yield wired(["frame", "unit1", "unit2 frame unit1", "unit3 unit2 unit1", "unit4 unit2"], "add", True, **LEARNING)
    for seed in range(12):
        every = "clip" if seed % 2 else 1
        yield graph(2 + seed % 6, 1 + seed % 3, seed=seed, images=seed % 4 == 3, update_every=every, **LEARNING)


def large_cases():
    """A graph whose messages are too long for MPI to store: a send ends only once the other process receives."""
    yield wired(["frame", "unit1", "unit2", "unit3 unit1"], batch=8192, width=32, **LEARNING)


def make(mine, case, network):
    """Make the student's rule of this process. Units of the other process refuse to run."""
    samples = case.clips[0][0].shape[1]
    rule = case.make(lambda *arguments: mine.TwoProcessSideways(*arguments, WORLD, samples), network)
    for name, rank in rule.owner.items():
        if rank != WORLD.Get_rank():
            network.units[name].forward = refusal(name, rank)
    return rule


def refusal(name, rank):
    """A function for the place of `forward` in a unit that lives elsewhere."""

    def forward(*arguments):
        raise AssertionError(f"rank {WORLD.Get_rank()} runs {name}, which belongs to rank {rank}: see self.units")

    return forward


def check(mine, case, patience):
    """Train in two processes, and compare the units of this one with the library. Returns the complaint, or ""."""
    expected = history(sw.Sideways, case)
    faulthandler.dump_traceback_later(patience, exit=True)
    network = case.network()
    rule = make(mine, case, network)
    for frames, targets in case.clips:
        for frame, target in zip(frames, targets, strict=True):
            rule.tick(frame, target)
        rule.end_clip()
    faulthandler.cancel_dump_traceback_later()
    own = [name for name, rank in rule.owner.items() if rank == WORLD.Get_rank()]
    right = {name: expected[-1].arrays[name] for name in own}
    return difference_of_arrays("", arrays_of(network, own), right)


def timing(mine, milliseconds, patience):
    """Print how long a tick takes in which 8 slow units work, in one process and in two."""
    case = chain(8, batch=4, more=5, optimizer="SGD")
    for processes in (1, 2):
        WORLD.Barrier()
        faulthandler.dump_traceback_later(patience + 0.5 * milliseconds, exit=True)
        if processes == 2 or WORLD.Get_rank() == 0:
            network = case.network()
            emulate(network, milliseconds)
            rule = make(mine, case, network) if processes == 2 else case.make(mine.SkipSideways, network)
            seconds = [seconds_of(rule, frame, target) for frame, target in zip(*case.clips[0], strict=True)]
            if WORLD.Get_rank() == 0:
                middle = 1e3 * sorted(seconds[-5:])[2]
                print(f"{processes} process(es): a tick in which all units work takes {middle:.0f} ms", flush=True)
        faulthandler.cancel_dump_traceback_later()


def seconds_of(rule, frame, target):
    """The time that a tick takes."""
    begin = time.perf_counter()
    rule.tick(frame, target)
    return time.perf_counter() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", nargs="?", default=str(HERE / "my_sideways.py"))
    parser.add_argument("--large", action="store_true", help="messages of a megabyte")
    parser.add_argument("--timing", type=float, metavar="MS", help="measure a tick of 8 units of MS milliseconds each")
    parser.add_argument("--patience", type=float, default=30.0, metavar="S", help="seconds until a standstill is ended")
    options = parser.parse_args()
    if WORLD.Get_size() != 2:
        raise SystemExit("start two processes: mpirun -n 2 python tutorials/exercise/two_processes.py")
    mine = load(Path(options.file).read_text(encoding="utf-8"), options.file)
    if options.timing:
        timing(mine, options.timing, options.patience)
        return
    count = 0
    for case in large_cases() if options.large else small_cases():
        complaints = WORLD.allgather(check(mine, case, options.patience))
        for rank, complaint in enumerate(complaints):
            if complaint:
                raise AssertionError(f"on {case}: rank {rank} ends with wrong parameters: {complaint}.")
        count += 1
    if WORLD.Get_rank() == 0:
        print(f"{count} network(s): two processes end with the bits of one", flush=True)


def together():
    """Run `main`. If it fails in one process, end both, since the other would wait for ever."""
    try:
        main()
    except (AssertionError, NotImplementedError) as error:
        words = str(error)
    except Exception:
        words = traceback.format_exc()
    else:
        return
    lines = [f"rank {WORLD.Get_rank()} | {line}\n" for line in words.splitlines()]
    sys.stderr.write("".join(lines))
    sys.stderr.flush()
    time.sleep(0.5)  # until mpirun has passed the words on
    WORLD.Abort(1)


if __name__ == "__main__":
    together()
