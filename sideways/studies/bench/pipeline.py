"""`sideways bench pipeline` and `sideways bench latency`: the gain from several ranks, and the fate of frames that come
at a steady rate. Both compare Sideways, Delayed and backpropagation.

Both benchmarks start `mpirun` themselves, one job after the other on this machine; each job runs
`sideways/mpi/bench.py`. If PyTorch is installed, `pipeline` runs `torch_pipeline.py` too.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from sideways.studies.bench.output import print_table, write_json
from sideways.studies.mpirun import mpirun

PYTORCH = """PyTorch: the same network, channels last, one thread for each process unless the row says otherwise; GPipe
and 1F1B with 16 micro-batches of the same size, an update after all 16, stages balanced by PyTorch's own times; ideal:
the speed-up of this balance × 16 / (15 + ranks)."""
MARKED = "Delayed learns from the loss of one tick in n; D is the depth."
HEAD = (
    *("method", "ranks", "frames/s", "ms/tick", "spread", "speed-up", "ideal", "reached"),
    *("side by side", "of that", "ping-pong ms", "Sideways is"),
)
NAMES = {
    "sideways": "Sideways",
    "delayed": "Delayed, n = {learn_every}",
    "backprop": "backprop, blocked",
    "plain": "PyTorch, backprop",
    "gpipe": "PyTorch, GPipe",
    "1f1b": "PyTorch, 1F1B",
}


def pipeline(ranks: Sequence[int], arguments: Sequence[str], path: str | None) -> None:
    """Measure frames per second of Sideways, Delayed, blocked backpropagation and PyTorch on 1 … K ranks."""
    results = _all_methods("pipeline", ranks, arguments)
    peers, reason = _pytorch(ranks, arguments)
    alone = {_name(r): r for r in reversed([*results, *peers]) if r["ranks"] == ranks[0]}
    fastest = min(r["seconds_per_tick"] for r in results if r["method"] == "sideways")
    rows = []
    for result in results:
        base = alone[_name(result)]
        # Blocked backpropagation runs one rank at a time: no placement makes it faster.
        ideal = 1.0 if result["method"] == "backprop" else result["allowed"] / base["allowed"]
        rows.append(_row(result, base["seconds_per_tick"], ideal, fastest))
    rows += [_row(r, alone[NAMES["plain"]]["seconds_per_tick"], r["allowed"], fastest) for r in peers]
    _print_emulation(arguments)
    print_table(HEAD, rows)
    print(
        "\nms/tick: median of five; a tick of blocked backpropagation takes one frame up and its gradient down. ideal:"
        "\nthe speed-up that the balance of the placement allows; reached: the share of it. side by side: the time of a"
        "\ntick of the whole network in one process, while as many processes as there are ranks do the same beside each"
        "\nother, over its time alone: the ranks share the machine's memory and caches (emulated devices share nothing:"
        "\nno value); of that: the share reached if the ideal tick is longer by this factor. ping-pong: one"
        "\nway, a bare message as large as the largest activation. 'Sideways is': frames/s of Sideways' fastest row"
        "\nover frames/s of this row."
        f"\n{MARKED}\n{reason or PYTORCH}"
    )
    write_json(path, [*results, *peers])


def _row(result: dict[str, Any], alone: float, ideal: float, fastest: float) -> tuple[str, ...]:
    """A row of the table of `pipeline`.

    alone: seconds per tick on one rank; ideal: the speed-up that the balance allows; fastest: Sideways' least seconds.
    """
    seconds, ranks, threads = result["seconds_per_tick"], result["ranks"], result.get("threads", 1)
    gain = alone / seconds
    ping_pong = result.get("ping_pong_seconds")  # PyTorch's results have none
    slow_down = result.get("slow_down") if ranks > 1 and result["method"] != "backprop" else None
    return (
        _name(result),
        str(ranks) if threads == 1 else f"1, {threads} threads",
        f"{result['batch'] / seconds:.1f}",
        f"{1e3 * seconds:.2f}",
        f"{1e3 * result['spread']:.2f}",
        f"{gain:.2f}",
        f"{ideal:.2f}",
        f"{gain / ideal:.0%}",
        f"{slow_down:.2f}" if slow_down else "",
        f"{gain / ideal * slow_down:.0%}" if slow_down else "",
        f"{1e3 * ping_pong:.2f}" if ranks > 1 and ping_pong is not None else "",
        f"{seconds / fastest:.2f} ×",
    )


def latency(ranks: Sequence[int], arguments: Sequence[str], path: str | None) -> None:
    """Count updates and dropped frames when frames arrive at a steady rate, whether or not the learner is ready."""
    results = _all_methods("latency", ranks, arguments)
    rows = []
    for result in results:
        ages = list(result["age_in_parameters"].values())
        rows.append(
            (
                _name(result),
                str(result["ranks"]),
                str(result["frames"]),
                f"{result['updates_per_frame']:.3f}",
                str(result["dropped"]),
                *(f"{1e3 * age:.0f}" for age in (ages[0], ages[-1], result["age_in_output"])),
            )
        )
    _print_emulation(arguments)
    print(f"a frame arrives every {results[0]['period_ms']:g} ms; {results[0]['units']} units\n")
    head = ("method", "ranks", "arrived", "updates/frame", "dropped", "age bottom ms", "age top ms", "age output ms")
    print_table(head, rows)
    print(
        "\nupdates/frame: updates of each unit per frame that arrived. age: mean time from a frame's arrival to the end"
        "\nof the step that used it, for the newest frame in the updates of the bottom unit, of the top unit, and in"
        f"\nthe output. {MARKED}\nUnmarked frames cause no update: they are seen and"
        " answered, and nothing is learnt from their losses."
    )
    write_json(path, results)


def _pytorch(ranks: Sequence[int], arguments: Sequence[str]) -> tuple[list[dict[str, Any]], str]:
    """PyTorch's results with this network on these ranks, or the reason why there are none."""
    if importlib.util.find_spec("torch") is None:
        return [], "PyTorch is not installed: there is no comparison with GPipe and 1F1B (pip install torch)."
    if {"--units", "--emulate-ms"} & set(arguments):
        return [], "PyTorch is not compared on emulated devices, nor with --units."
    passed = [part for name in ("--model", "--size", "--batch") for part in _option(arguments, name)]
    runs = [("plain", k) for k in ranks] + [(schedule, k) for k in ranks if k > 1 for schedule in ("gpipe", "1f1b")]
    results = []
    for schedule, k in runs:
        processes = ["--threads" if schedule == "plain" else "--ranks", str(k)]
        command = [sys.executable, "-m", "sideways.studies.bench.torch_pipeline", schedule, *processes, *passed]
        job = subprocess.run(command, text=True, capture_output=True)
        if job.returncode:
            return [], f"The comparison with PyTorch failed: {job.stderr.strip().splitlines()[-1]}"
        results.append(json.loads(job.stdout.splitlines()[-1]))
    return results, ""


def _option(arguments: Sequence[str], name: str) -> Sequence[str]:
    """An option and its value; nothing if the arguments do not hold the option."""
    start = arguments.index(name) if name in arguments else len(arguments)
    return arguments[start : start + 2]


def _all_methods(benchmark: str, ranks: Sequence[int], arguments: Sequence[str]) -> list[dict[str, Any]]:
    """The results of Sideways, Delayed (n = 1 and 2D - 1) and blocked backpropagation, on each number of ranks."""
    results: list[dict[str, Any]] = []
    for k in ranks:
        sideways = measured(benchmark, "sideways", k, arguments)
        delayed = [
            measured(benchmark, "delayed", k, ["--learn-every", str(n), *arguments])
            for n in (1, 2 * sideways["depth"] - 1)
        ]
        results += [sideways, *delayed, measured(benchmark, "backprop", k, arguments)]
    return results


def measured(benchmark: str, method: str, ranks: int, arguments: Sequence[str]) -> dict[str, Any]:
    """Run `pipeline` or `latency` of `sideways/mpi/bench.py` on this many ranks, and return its result."""
    return json.loads(mpirun(ranks, "sideways.mpi.bench", [benchmark, method, *arguments], quiet=True).splitlines()[-1])


def _name(result: dict[str, Any]) -> str:
    """The name of a result's method in a table."""
    return NAMES[result["method"]].format_map(result)


def _print_emulation(arguments: Sequence[str]) -> None:
    """Print the emulated time of a unit, if devices are emulated."""
    if "--emulate-ms" in arguments:
        _, milliseconds = _option(arguments, "--emulate-ms")
        print(f"compute is emulated: each unit takes {milliseconds} ms per tick, spent idle\n")
