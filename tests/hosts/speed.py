"""Measure what two hosts of namespaces reach of the speed that the balance of their ranks allows, over TCP.

    python -m tests.hosts.speed [--repeats 3]       as root, with Debian's iproute2 and openssh-server

In turn: one process, then two ranks on two hosts, each host with a core of its own; vgg8, 112×112, batches of 8 frames.
"""

import argparse
import json
import tempfile
from pathlib import Path

from tests.hosts.hosts import Network

BENCH = ("-m", "sideways.mpi.bench", "pipeline")
METHODS = {"Sideways": ("sideways",), "Delayed, n = 15": ("delayed", "--learn-every", "15")}


def measure(network, hosts, *options):
    """The result of `sideways/mpi/bench.py` with a rank on each of the first hosts."""
    done = network.run(hosts, hosts, *BENCH, *options, timeout=600)
    assert done.code == 0, done.errors
    return json.loads(done.output.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as folder, Network(Path(folder), 2) as network:
        for name, options in METHODS.items():
            for _ in range(repeats):
                alone, both = (measure(network, hosts, *options) for hosts in (1, 2))
                gain = alone["seconds_per_tick"] / both["seconds_per_tick"]
                reached = gain / both["allowed"]
                print(
                    f"{name}: {1e3 * alone['seconds_per_tick']:.1f} ms per tick alone, "
                    f"{1e3 * both['seconds_per_tick']:.1f} on two hosts: {gain:.2f} × of {both['allowed']:.2f}, "
                    f"{reached:.0%}; {reached * both['slow_down']:.0%} if the ideal is slower by the factor "
                    f"{both['slow_down']:.2f} of two processes side by side; "
                    f"{both['biggest_message_bytes'] / 1e6:.1f} MB take {1e3 * both['ping_pong_seconds']:.1f} ms",
                    flush=True,
                )


if __name__ == "__main__":
    main()
