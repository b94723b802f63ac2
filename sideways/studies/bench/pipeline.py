"""`sideways bench pipeline` and `sideways bench latency`: what several ranks gain, and what happens to the frames.

Both start `mpirun` themselves, one job after the other on the same machine; `mpi/bench.py` is what runs in each. Where
PyTorch is installed, `torch_pipeline.py` runs beside them.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from sideways.studies.bench.output import print_table, write_json
from sideways.studies.mpirun import CLONE, mpirun

PYTORCH = """PyTorch: the same network, channels last, one thread a process where not said; GPipe and 1F1B with 16
micro-batches of the same size, an update after all 16, stages balanced by PyTorch's own times; ideal: that balance
× 16 / (15 + ranks)."""
HEAD = (
    *("method", "ranks", "frames/s", "ms/tick", "spread", "speed-up", "ideal", "reached"),
    *("ms over ideal", "ping-pong ms", "Sideways is"),
)
NAMES = {
    "sideways": "Sideways",
    "backprop": "backprop, blocked",
    "plain": "PyTorch, backprop",
    "gpipe": "PyTorch, GPipe",
    "1f1b": "PyTorch, 1F1B",
}


def pipeline(ranks: Sequence[int], arguments: Sequence[str], path: str | None) -> None:
    """Frames per second of Sideways, of blocked model-parallel backpropagation and of PyTorch, on 1 … K ranks."""
    results = [measured("pipeline", method, k, arguments) for k in ranks for method in ("sideways", "backprop")]
    peer, why_not = _pytorch(ranks, arguments)
    one = {r["method"]: r["seconds_per_tick"] for r in reversed([*results, *peer]) if r["ranks"] == ranks[0]}
    ours = min(r["seconds_per_tick"] for r in results if r["method"] == "sideways")
    rows = []
    for r in (*results, *peer):
        seconds, method = r["seconds_per_tick"], r["method"]
        alone = one["plain" if r in peer else method]
        gain = alone / seconds
        ideal = 1.0 if method == "backprop" else r["allowed"] if r in peer else r["allowed"] / results[0]["allowed"]
        over = 1e3 * (seconds - alone / ideal)
        rows.append(
            (
                NAMES[method],
                str(r["ranks"]) if r.get("threads", 1) == 1 else f"1, {r['threads']} threads",
                f"{r['batch'] / seconds:.1f}",
                f"{1e3 * seconds:.2f}",
                f"{1e3 * r['spread']:.2f}",
                f"{gain:.2f}",
                f"{ideal:.2f}",
                f"{gain / ideal:.0%}",
                f"{over:.2f}" if r["ranks"] > 1 else "",
                f"{1e3 * r['ping_pong_seconds']:.2f}" if r["ranks"] > 1 and r in results else "",
                f"{seconds / ours:.2f} ×",
            )
        )
    _emulated(arguments)
    print_table(HEAD, rows)
    print(
        "\nms/tick: median of five; blocked backpropagation makes one frame's whole way per tick. ideal: what the"
        "\nbalance of the placement allows. ping-pong: one way, a bare message as large as the largest activation."
        "\nSideways is: its fastest row's frames/s over this row's."
        f"\n{why_not or PYTORCH}"
    )
    write_json(path, [*results, *peer])


def latency(ranks: Sequence[int], arguments: Sequence[str], path: str | None) -> None:
    """What becomes of frames that arrive on time whether or not the learner is ready."""
    results = [measured("latency", method, k, arguments) for k in ranks for method in ("sideways", "backprop")]
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


def _pytorch(ranks: Sequence[int], arguments: Sequence[str]) -> tuple[list[dict[str, Any]], str]:
    """What PyTorch does with the same network on the same ranks, or why it was not asked."""
    if importlib.util.find_spec("torch") is None:
        return [], "PyTorch is not installed: no GPipe and 1F1B beside it (pip install torch)."
    if {"--units", "--emulate-ms"} & set(arguments):
        return [], "PyTorch is not compared on emulated devices, nor with --units."
    passed = [part for name in ("--model", "--size", "--batch") for part in _option(arguments, name)]
    runs = [("plain", k) for k in ranks] + [(schedule, k) for k in ranks if k > 1 for schedule in ("gpipe", "1f1b")]
    results = []
    for schedule, k in runs:
        processes = ["--threads" if schedule == "plain" else "--ranks", str(k)]
        command = [sys.executable, "-m", "sideways.studies.bench.torch_pipeline", schedule, *processes, *passed]
        job = subprocess.run(command, text=True, capture_output=True, env=os.environ | {"PYTHONPATH": str(CLONE)})
        if job.returncode:
            return [], f"The comparison with PyTorch failed: {job.stderr.strip().splitlines()[-1]}"
        results.append(json.loads(job.stdout.splitlines()[-1]))
    return results, ""


def _option(arguments: Sequence[str], name: str) -> Sequence[str]:
    """An option and its value, if it was given."""
    at = arguments.index(name) if name in arguments else len(arguments)
    return arguments[at : at + 2]


def measured(what: str, method: str, ranks: int, arguments: Sequence[str]) -> dict[str, Any]:
    return json.loads(mpirun(ranks, "mpi.bench", [what, method, *arguments], quiet=True).splitlines()[-1])


def _emulated(arguments: Sequence[str]) -> None:
    if "--emulate-ms" in arguments:
        _, milliseconds = _option(arguments, "--emulate-ms")
        print(f"compute is emulated: each unit takes {milliseconds} ms per tick, spent idle\n")
