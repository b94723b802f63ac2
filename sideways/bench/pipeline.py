"""`sideways bench pipeline` and `sideways bench latency`: what several ranks gain, and what happens to the frames.

Both start `mpirun` themselves, one job after the other on the same machine; `mpi/bench.py` is what runs in each.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sideways.bench.machine import print_table, write_json
from sideways.mpirun import mpirun

HEAD = (
    *("method", "ranks", "frames/s", "ms/tick", "spread", "speed-up", "ideal", "reached"),
    *("ms over ideal", "ping-pong ms"),
)
NAMES = {"sideways": "Sideways", "backprop": "backprop, blocked"}


def pipeline(ranks: Sequence[int], arguments: Sequence[str], path: str | None) -> None:
    """Ticks per second of Sideways, and of blocked model-parallel backpropagation, on 1 … K ranks."""
    results = [_measure("pipeline", method, k, arguments) for k in ranks for method in ("sideways", "backprop")]
    one = {r["method"]: r["seconds_per_tick"] for r in results if r["ranks"] == ranks[0]}
    rows = []
    for r in results:
        seconds, method = r["seconds_per_tick"], r["method"]
        gain = one[method] / seconds
        ideal = r["allowed"] / results[0]["allowed"] if method == "sideways" else 1.0
        messages = 1e3 * (seconds - one[method] / ideal)
        rows.append(
            (
                NAMES[method],
                str(r["ranks"]),
                f"{r['batch'] / seconds:.1f}",
                f"{1e3 * seconds:.2f}",
                f"{1e3 * r['spread']:.2f}",
                f"{gain:.2f}",
                f"{ideal:.2f}",
                f"{gain / ideal:.0%}",
                f"{messages:.2f}" if r["ranks"] > 1 else "",
                f"{1e3 * r['ping_pong_seconds']:.2f}" if r["ranks"] > 1 else "",
            )
        )
    _emulated(arguments)
    print_table(HEAD, rows)
    print(
        "\nms/tick: median of five; blocked backpropagation makes one frame's whole way per tick. ideal: what the"
        "\nbalance of the placement allows. ping-pong: one way, a bare message as large as the largest activation."
    )
    write_json(path, results)


def latency(ranks: Sequence[int], arguments: Sequence[str], path: str | None) -> None:
    """What becomes of frames that arrive on time whether or not the learner is ready."""
    results = [_measure("latency", method, k, arguments) for k in ranks for method in ("sideways", "backprop")]
    rows = []
    for r in results:
        ages = list(r["age_in_parameters"].values())
        rows.append(
            (
                NAMES[r["method"]],
                str(r["ranks"]),
                str(r["frames"]),
                f"{r['updates_per_frame']:.2f}",
                str(r["dropped"]),
                *(f"{1e3 * age:.0f}" for age in (ages[0], ages[-1], r["age_in_output"])),
            )
        )
    _emulated(arguments)
    print(f"a frame arrives every {results[0]['period_ms']:g} ms; {results[0]['units']} units\n")
    head = ("method", "ranks", "arrived", "updates/frame", "dropped", "age bottom ms", "age top ms", "age output ms")
    print_table(head, rows)
    print(
        "\nupdates/frame: updates of each unit per frame that arrived. age: from a frame's arrival to the end of the"
        "\nstep that used it, mean: of the newest frame in the updates of the bottom and of the top unit, and in the"
        "\noutput."
    )
    write_json(path, results)


def _measure(what: str, method: str, ranks: int, arguments: Sequence[str]) -> dict[str, Any]:
    return json.loads(mpirun(ranks, "mpi.bench", [what, method, *arguments], quiet=True).splitlines()[-1])


def _emulated(arguments: Sequence[str]) -> None:
    if "--emulate-ms" in arguments:
        milliseconds = arguments[list(arguments).index("--emulate-ms") + 1]
        print(f"compute is emulated: each unit takes {milliseconds} ms per tick, spent idle\n")
