"""`sideways bench plan`: frames per second, latency and memory on many ranks, computed before the ranks exist.

`planner.py` makes the plans; this module prints them. With `--check` it runs the emulated jobs beside the plans.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sideways.errors import InputError
from sideways.network import Network
from sideways.studies.bench.footprint import PARTS
from sideways.studies.bench.output import write_json
from sideways.studies.bench.pipeline import measured
from sideways.studies.bench.planner import Plan, Planner, bound
from sideways.tables import aligned

WITHIN = 0.05  # the largest relative error of a plan that `--check` accepts
HEAD = (
    *("ranks", "replicas", "frames/s", "at worst", "ms/tick", "busy", "answer ms", "first update ms"),
    *("last update ms", "MB/rank", "bounded by"),
)
LEGEND = """frames/s: if messages travel while ranks compute; at worst: if ranks also spend the time of their messages.
busy: the mean share of a tick in which a rank computes. answer, first update, last update: the age of a frame, at full
speed, when the top answers it ({answer} ticks after it was taken), at the end of the first update that its loss causes
(the top's, in the same tick), and of the last ({last} ticks after it was taken). MB/rank: of the rank that needs most
memory; below, by part."""


def plan(options: argparse.Namespace) -> None:
    """Print the plans, what would pay, and with `options.check` the emulated jobs beside them."""
    _check_options(options)
    planner = Planner(options)
    plans, refusals = planner.plans(options.ranks, [1] if options.check else options.replicas)
    print(f"{_subject(options, planner.network)}\n\n{aligned(HEAD, [_row(plan, options.batch) for plan in plans])}\n")
    latency = planner.network.latency
    print(LEGEND.format(answer=latency, last=2 * latency))
    memory_rows = [
        (str(p.ranks), str(p.replicas), *(f"{_fullest(p)[part] / 1e6:.3g}" for part in PARTS)) for p in plans
    ]
    print(f"\n{aligned(('ranks', 'replicas', *(f'{part} MB' for part in PARTS)), memory_rows)}\n")
    for line in (*map(planner.advice, plans), *(f"Not planned: {refusal}." for refusal in refusals)):
        print(f"- {line}")
    checks = [check(each, options) for each in plans] if options.check else []
    results = [_result(plan) for plan in plans]
    write_json(options.json, {"plans": results, "checks": checks})
    if checks:
        _print_checks(checks, options.batch)


def _check_options(options: argparse.Namespace) -> None:
    """Raise `InputError` for options that do not go together."""
    if options.learn_every and options.rule != "delayed":
        raise InputError("--learn-every goes with --rule delayed")
    if options.costs == "estimate" and not options.device_gflops:
        raise InputError("--costs estimate needs the speed of a device: add --device-gflops")
    if options.unit_ms and (options.costs or options.device_gflops):
        raise InputError("--unit-ms sets the costs: omit --costs and --device-gflops")
    if options.units and options.set:
        raise InputError("--set gives options to a model: omit --units")
    if options.check and not options.unit_ms:
        raise InputError("--check runs emulated devices, on which all units take one time: add --unit-ms, such as 40")
    if options.check and (options.set or options.dtype != "float32" or options.replicas not in (None, [1])):
        raise InputError("--check runs one replica in float32: omit --set, --dtype and --replicas")


def _subject(options: argparse.Namespace, network: Network) -> str:
    """Say for what the plan is made, and where the costs come from."""
    model = f"an mlp of {options.units} units" if options.units else options.model
    rule = f"Delayed, learn_every={options.learn_every or 1}" if options.rule == "delayed" else "Sideways"
    if options.unit_ms:
        costs = f"each unit takes {options.unit_ms:g} ms"
    else:
        source = "measured here" if options.costs == "measure" or not options.device_gflops else "from multiply-adds"
        costs = f"costs {source}" + (f", devices of {options.device_gflops:g} GFLOP/s" if options.device_gflops else "")
    return (
        f"{model}, {rule}, batches of {options.batch} frames of {options.size}×{options.size}, {options.dtype}; "
        f"depth {network.depth}\n{costs}; links of {options.link_gbs:g} GB/s and {options.link_us:g} µs"
    )


def _row(plan: Plan, batch: int) -> tuple[str, ...]:
    steady = plan.steady
    return (
        str(plan.ranks),
        str(plan.replicas),
        f"{batch / steady.tick:.1f}",
        f"{batch / plan.at_worst.tick:.1f}",
        f"{1e3 * steady.tick:.2f}",
        f"{sum(steady.compute) / len(steady.compute) / steady.tick:.0%}",
        *(f"{1e3 * age:.1f}" for age in (steady.answer, steady.first_update, steady.last_update)),
        f"{sum(_fullest(plan).values()) / 1e6:.3g}",
        bound(plan),
    )


def _fullest(plan: Plan) -> dict[str, float]:
    """The memory of the rank that needs most, by part."""
    return max(plan.memory, key=lambda memory: sum(memory.values()))


def _result(plan: Plan) -> dict[str, Any]:
    """A plan as it stands in the JSON file."""
    return {
        "ranks": plan.ranks,
        "replicas": plan.replicas,
        "groups": plan.groups,
        "steady": asdict(plan.steady),
        "at_worst": asdict(plan.at_worst),
        "memory": plan.memory,
        "bound": bound(plan),
    }


# The check -----------------------------------------------------------------------------------------------------------


def check(plan: Plan, options: argparse.Namespace) -> dict[str, Any]:
    """Run the emulated job of a plan. Returns the ranks, planned and measured seconds of a tick, and the spread."""
    positions = [list(plan.pipeline.units).index(name) for group in plan.groups for name in (group[0], group[-1])]
    placement = ",".join(f"{first}-{last}" for first, last in zip(positions[::2], positions[1::2], strict=True))
    network = ["--units", str(options.units)] if options.units else ["--model", options.model]
    learning = ["--learn-every", str(options.learn_every or 1)] if options.rule == "delayed" else []
    arguments = [*network, *learning, "--placement", placement, "--emulate-ms", f"{options.unit_ms:g}"]
    arguments += ["--size", str(options.size), "--batch", str(options.batch), "--ticks", str(options.ticks)]
    result = measured("pipeline", options.rule, plan.ranks, arguments)
    return {
        "ranks": plan.ranks,
        "planned": plan.steady.tick,
        "measured": result["seconds_per_tick"],
        "spread": result["spread"],
    }


def _print_checks(checks: Sequence[dict[str, Any]], batch: int) -> None:
    """Print plan and measurement side by side. Exit code 1 if a plan is off by more than `WITHIN`."""
    rows = [
        (
            str(c["ranks"]),
            *(f"{batch / c[kind]:.1f}" for kind in ("planned", "measured")),
            *(f"{1e3 * c[kind]:.2f}" for kind in ("planned", "measured", "spread")),
            f"{c['planned'] / c['measured']:.3f}",
        )
        for c in checks
    ]
    head = (
        "ranks",
        "planned frames/s",
        "measured frames/s",
        "planned ms",
        "measured ms",
        "spread ms",
        "measured / planned",
    )
    print(f"\n{aligned(head, rows)}")
    if wrong := [c["ranks"] for c in checks if abs(c["planned"] / c["measured"] - 1) > WITHIN]:
        print(f"off by more than {WITHIN:.0%} on {', '.join(map(str, wrong))} ranks")
        raise SystemExit(1)
