"""Measure what two hosts of namespaces reach of the speed that the balance of their ranks allows, and of their plan.

    python -m tests.hosts.speed [--repeats 3]       as root, with Debian's iproute2 and openssh-server

In turn: one process; two ranks on two hosts, each host with a core of its own, over TCP; and `sideways bench plan` with
the times of the units on one host and of messages between both. vgg8, 112×112, batches of 8 frames.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.hosts.hosts import Network

BENCH = ("-m", "sideways.mpi.bench", "pipeline")
METHODS = {"Sideways": "sideways", "Delayed, n = 15": "delayed"}
LEARN = {"sideways": (), "delayed": ("--learn-every", "15")}


def measure(network, hosts, *arguments):
    """The last line that rank 0 of a job with a rank on each of the first hosts prints, read as JSON."""
    done = network.run(hosts, hosts, *arguments, timeout=600)
    assert done.code == 0, done.errors
    return json.loads(done.output.splitlines()[-1])


def planned(network, folder, rule):
    """The seconds of a tick that `sideways bench plan` expects: if messages travel meanwhile, and at worst."""
    seconds = measure(network, 2, "-m", "sideways.mpi.site", "speed")["seconds"]
    latency, large = seconds["8"], seconds["6400000"]
    link = ["--link-us", f"{1e6 * latency:.3f}", "--link-gbs", f"{6.4e-3 / (large - latency):.4f}"]
    plan = ["plan", "vgg8", "--ranks", "2", "--replicas", "1", "--rule", rule, *LEARN[rule], *link]
    command = [sys.executable, "-m", "sideways", "bench", *plan, "--json", folder / "plan.json"]
    subprocess.run(network.hosts[0].words(*command), check=True, stdout=subprocess.DEVNULL)
    (result,) = json.loads((folder / "plan.json").read_text())["results"]["plans"]
    return result["steady"]["tick"], result["at_worst"]["tick"]


def compare(network, folder, name):
    """Print what one rule reaches, once."""
    rule = METHODS[name]
    alone, both = (measure(network, hosts, *BENCH, rule, *LEARN[rule]) for hosts in (1, 2))
    ticks = planned(network, folder, rule)
    tick, gain = both["seconds_per_tick"], alone["seconds_per_tick"] / both["seconds_per_tick"]
    reached = gain / both["allowed"]
    print(
        f"{name}: {1e3 * alone['seconds_per_tick']:.1f} ms per tick alone, "
        f"{1e3 * tick:.1f} on two hosts: {gain:.2f} × of {both['allowed']:.2f}, "
        f"{reached:.0%}; {reached * both['slow_down']:.0%} if the ideal is slower by the factor "
        f"{both['slow_down']:.2f} of two processes side by side; "
        f"{both['biggest_message_bytes'] / 1e6:.1f} MB take {1e3 * both['ping_pong_seconds']:.1f} ms; "
        f"planned {1e3 * ticks[0]:.1f} to {1e3 * ticks[1]:.1f} ms: {ticks[0] / tick:.0%} to {ticks[1] / tick:.0%}",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as folder, Network(Path(folder), 2) as network:
        for name in METHODS:
            for _ in range(repeats):
                compare(network, Path(folder), name)


if __name__ == "__main__":
    main()
