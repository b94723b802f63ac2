"""latency, parallel and memory: the purposes of Sideways, measured beside the line that theory predicts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy
from threadpoolctl import threadpool_limits

from sideways.losses import SoftmaxCrossEntropy
from sideways.models import build_model
from sideways.network import Network
from sideways.optimizers import SGD
from sideways.rules import Sideways
from sideways.studies.bench import memory as bench_memory
from sideways.studies.bench.pipeline import measured
from sideways.studies.claims.claim import CVPR2020, CVPR2021, Claim, Finding, Lab, Rows
from sideways.studies.claims.figures import Curve, draw_lines, panels, save
from sideways.studies.claims.verdict import Check, Verdict, judged
from sideways.training.log import ShowProgress
from sideways.training.several import run_calls

UNITS = 8  # of the emulated pipeline
METHODS = ("sideways", "backprop")
DEPTHS = (2, 4, 8, 16)
Ticks = dict[int, dict[str, int]]  # depth → the ticks that `first_updates` counts
Measurement = dict[str, Any]  # the result of one run of `sideways/mpi/bench.py`
Parameters = list[dict[str, numpy.ndarray]]  # for each tick: unit → its parameters, one after the other


def latency(lab: Lab) -> Finding:
    """Count the ticks until a frame changes the parameters, and time emulated ranks on frames that arrive steadily."""
    ticks = {depth: first_updates(depth) for depth in DEPTHS}
    ranks, device = lab.pick((1, 8), (1, 2, 4, 8), (1, 2, 4, 8)), 10
    period = 2 * device
    arguments = ["--units", str(UNITS), "--size", "8", "--emulate-ms", str(device), "--period-ms", str(period)]
    arguments += ["--ticks", str(lab.pick(30, 100, 300))]
    results = [measured("latency", method, k, arguments) for k in ranks for method in METHODS]
    widest = {result["method"]: result for result in results if result["ranks"] == max(ranks)}
    title = f"{UNITS} emulated devices of {device} ms, a frame every {period} ms"
    return Finding(
        latency_verdict(ticks, widest),
        f"emulated, {max(ranks)} ranks: the first update that a frame takes part in after "
        f"{1e3 * soonest(widest['sideways']):.0f} ms, its own loss at the bottom after "
        f"{1e3 * own_loss(widest['sideways'], period):.0f} ms; backprop {1e3 * soonest(widest['backprop']):.0f} ms",
        f"mlps of 2 to 16 units in ticks; `sideways bench latency {' '.join(arguments)}` in milliseconds",
        _latency_rows(ticks, ranks, results, period),
        "None: devices are emulated, since the claim is about the schedule.",
        [_latency_picture(lab, ticks, ranks, results, title)],
        "The first update that a frame causes is made with its activation and the gradient of an older frame. Its own "
        "loss trains the bottom unit in tick 2D - 1 (in milliseconds by this schedule: that tick takes the frame that "
        "comes 2D - 2 periods later). For a single frame backpropagation is sooner; it misses the frames that come "
        "while it works.",
    )


def _latency_rows(ticks: Ticks, ranks: Sequence[int], results: Sequence[Measurement], period: float) -> Rows:
    """A row for each depth, in ticks, then a row for each number of ranks, in milliseconds."""
    rows: Rows = [
        {
            "network": f"depth {depth}",
            "first update a frame causes": f"tick {updates['first']}",
            "its loss trains the top": f"tick {updates['top']}",
            "… and the bottom unit": f"tick {updates['bottom']}",
            "backprop": f"tick {2 * depth - 1}",
            "updates per frame that arrives": "",
        }
        for depth, updates in ticks.items()
    ]
    for k in ranks:
        sideways, backprop = (result for result in results if result["ranks"] == k)
        rows.append(
            {
                "network": f"{UNITS} units on {k} rank{'s' if k > 1 else ''}",
                "first update a frame causes": f"{1e3 * soonest(sideways):.0f} ms",
                "its loss trains the top": "",
                "… and the bottom unit": f"{1e3 * own_loss(sideways, period):.0f} ms" if k == UNITS else "",
                "backprop": f"{1e3 * soonest(backprop):.0f} ms",
                "updates per frame that arrives": f"{sideways['updates_per_frame']:.2f}, backprop "
                f"{backprop['updates_per_frame']:.2f}",
            }
        )
    return rows


def _latency_picture(lab: Lab, ticks: Ticks, ranks: Sequence[int], results: Sequence[Measurement], title: str) -> Path:
    """Draw the ticks against the depth, and the milliseconds against the number of ranks."""
    figure, axes = panels(2)
    lines = [
        Curve("first update a frame causes", DEPTHS, [updates["first"] for updates in ticks.values()]),
        Curve("its loss has trained the top", DEPTHS, [updates["top"] for updates in ticks.values()]),
        Curve("its loss has trained the bottom unit", DEPTHS, [updates["bottom"] for updates in ticks.values()]),
        Curve("backprop: 2D - 1", DEPTHS, [2 * depth - 1 for depth in DEPTHS], theory=True),
    ]
    draw_lines(
        axes[0], lines, "depth D (units)", "ticks after a frame's arrival, its own included", "Sideways, in ticks"
    )
    lines = [
        Curve(method, ranks, [1e3 * soonest(result) for result in results if result["method"] == method])
        for method in METHODS
    ]
    draw_lines(axes[1], lines, "ranks", "ms from a frame's arrival to its first update", title, ylim=(0, None))
    return save(figure, lab.directory / "latency.png")


def soonest(result: Measurement) -> float:
    """Mean seconds from a frame's arrival to the first update that used it."""
    return min(result["age_in_parameters"].values())


def own_loss(result: Measurement, period: float) -> float:
    """Seconds from a frame's arrival until its own loss has trained the bottom unit, with a rank for each unit.

    The bottom unit is trained in tick 2D - 1, by the update made with the frame that arrives 2D - 2 periods (ms) later.
    """
    age_at_the_bottom = next(iter(result["age_in_parameters"].values()))
    return (2 * UNITS - 2) * period / 1e3 + age_at_the_bottom


def first_updates(depth: int) -> dict[str, int]:
    """Ticks from a frame's arrival, its own tick included, until parameters differ because of the frame or its target.

    Two streams are compared that differ in one frame, or in one target, at a tick when all units are busy. Returns
    `first`, until any parameter differs because of the frame; `top` and `bottom`, until the parameters of the top and
    the bottom unit differ because of the target.
    """
    length, shape = 5 * depth, (2, 2, 1)
    random = numpy.random.default_rng(depth)
    frames = random.normal(size=(length, 4, *shape)).astype(numpy.float32)
    targets = random.integers(0, 4, (length, 4))
    changed = 2 * depth
    other_frames, other_targets = frames.copy(), targets.copy()
    other_frames[changed] += 1
    other_targets[changed] = (targets[changed] + 1) % 4

    plain = _parameters_over_time(depth, frames, targets)
    by_frame = _parameters_over_time(depth, other_frames, targets)
    by_target = _parameters_over_time(depth, frames, other_targets)

    def first(other: Parameters, names: Sequence[str]) -> int:
        differs = (t for t in range(length) if any(not numpy.array_equal(plain[t][n], other[t][n]) for n in names))
        return next(differs) - changed + 1

    names = list(plain[0])
    return {"first": first(by_frame, names), "top": first(by_target, names[-1:]), "bottom": first(by_target, names[:1])}


def _parameters_over_time(depth: int, frames: numpy.ndarray, targets: numpy.ndarray) -> Parameters:
    """Train a chain of this depth by Sideways on a stream, and note its parameters after each tick."""
    network = build_model("mlp", frames.shape[2:], 4, hidden=[8] * (depth - 1), activation="tanh")
    rule = Sideways(network, SoftmaxCrossEntropy(), SGD(0.05), boundary="stream")
    parameters = []
    for frame, target in zip(frames, targets, strict=True):
        rule.tick(frame, target)
        parameters.append(
            {name: numpy.concatenate([a.ravel() for a in p.values()]) for name, p in network.parameters.items()}
        )
    return parameters


def latency_verdict(ticks: Ticks, widest: dict[str, Measurement]) -> Verdict:
    """Check that a frame takes part in an update sooner than in backprop, and that Sideways misses no frame."""
    first_ticks = {depth: updates["first"] for depth, updates in ticks.items()}
    sideways_age, backprop_age = (soonest(widest[method]) for method in METHODS)
    rate, blocked = (widest[method]["updates_per_frame"] for method in METHODS)
    return judged(
        Check(
            sideways_age < backprop_age,
            "a frame takes part in an update sooner than in backprop, in milliseconds, on all ranks",
            f"{1e3 * sideways_age:.0f} against {1e3 * backprop_age:.0f}",
        ),
        Check(
            rate >= 0.95 > blocked,
            "Sideways updates for at least .95 of the frames that arrive, blocked backprop for fewer",
            f"{rate:.2f} against {blocked:.2f}",
        ),
        Check(
            all(first < 2 * depth - 1 for depth, first in first_ticks.items()),
            "a frame takes part in an update before tick 2D - 1",
            ", ".join(f"D = {depth}: {first}" for depth, first in first_ticks.items()),
        ),
        Check(
            all(updates["bottom"] == 2 * depth - 1 for depth, updates in ticks.items()),
            "a frame's own loss reaches the bottom unit in tick 2D - 1, no sooner and no later",
            ", ".join(str(updates["bottom"]) for updates in ticks.values()),
        ),
    )


def parallel(lab: Lab) -> Finding:
    """Time a tick on 1 to 8 emulated devices, and on two real cores."""
    ranks, device = (1, 2, 4, 8), 20
    arguments = ["--units", str(UNITS), "--size", "8", "--emulate-ms", str(device)]
    arguments += ["--ticks", str(lab.pick(4, 10, 30))]
    seconds = {m: [measured("pipeline", m, k, arguments)["seconds_per_tick"] for k in ranks] for m in METHODS}
    gains = {method: [times[0] / value for value in times] for method, times in seconds.items()}
    rows: Rows = []
    for method in METHODS:
        rows += _parallel_rows(f"{method}, emulated devices", ranks, seconds[method], gains[method])
    real: list[float] = []
    if lab.effort != "quick":
        vgg = ["--model", "vgg8", "--size", "56"]
        times = [measured("pipeline", "sideways", k, vgg)["seconds_per_tick"] for k in (1, 2)]
        real = [times[0] / value for value in times]
        rows += _parallel_rows("sideways, vgg8 on real cores", (1, 2), times, real)
    figure, axes = panels(1)
    lines = [Curve(method, ranks, gains[method]) for method in METHODS]
    lines.append(Curve("theory: K", ranks, ranks, theory=True))
    title = f"{UNITS} equal units, emulated devices of {device} ms"
    draw_lines(axes[0], lines, "ranks K", "frames/s, in multiples of one rank", title)
    return Finding(
        parallel_verdict(ranks, gains, real),
        f"emulated: {gains['sideways'][-1]:.2f} × on {ranks[-1]} ranks; blocked backprop {gains['backprop'][-1]:.2f} ×",
        f"`sideways bench pipeline {' '.join(arguments)} --ranks 1 2 4 8`: computing is emulated, messages are real",
        rows,
        "None.",
        [save(figure, lab.directory / "parallel.png")],
    )


def _parallel_rows(label: str, ranks: Sequence[int], seconds: Sequence[float], gains: Sequence[float]) -> Rows:
    return [
        {"what": label, "ranks": str(k), "ms per tick": f"{1e3 * time:.1f}", "speed-up": f"{gain:.2f}"}
        for k, time, gain in zip(ranks, seconds, gains, strict=True)
    ]


def parallel_verdict(ranks: Sequence[int], gains: dict[str, list[float]], real: Sequence[float]) -> Verdict:
    """Check that Sideways gains ≥ .8 K on K ranks and blocked backprop nothing; and vgg8 ≥ 1.5 on two real cores."""
    checks = [
        Check(
            all(gain >= 0.8 * k for k, gain in zip(ranks, gains["sideways"], strict=True)),
            "Sideways on K ranks at least .8 K times as fast as on one",
            ", ".join(f"K = {k}: {gain:.2f}" for k, gain in zip(ranks, gains["sideways"], strict=True)),
        ),
        Check(
            max(gains["backprop"]) < 1.5,
            "blocked backprop on K ranks less than 1.5 times as fast as on one",
            f"{max(gains['backprop']):.2f}",
        ),
    ]
    if real:
        checks.append(Check(real[-1] >= 1.5, "vgg8 on two real cores at least 1.5 times", f"{real[-1]:.2f}"))
    return judged(*checks)


def memory(lab: Lab) -> Finding:
    """Measure the memory that each rule needs on longer and longer clips."""
    lengths, size = lab.pick((16, 64), (16, 64, 256), (16, 64, 256)), lab.pick(32, 56, 112)
    network = build_model("vgg8", (size, size, 3), 101)
    rules = list(bench_memory.rules(network))
    calls = [partial(_peaks, network, lengths, rule) for rule in rules]
    peaks = dict(zip(rules, run_calls(calls, len(calls), "rule", lab.processes, "memory"), strict=True))
    rows: Rows = [
        {"rule": rule, **{f"T = {t}, MB": f"{peak / 1e6:.1f}" for t, peak in zip(lengths, values, strict=True)}}
        for rule, values in peaks.items()
    ]
    return Finding(
        memory_verdict(lengths, peaks),
        f"T = {lengths[-1]}: Sideways {peaks['Sideways'][-1] / 1e6:.1f} MB, bptt {peaks['bptt'][-1] / 1e6:.1f} MB",
        f"`sideways bench memory --size {size} --lengths {' '.join(map(str, lengths))}`",
        rows,
        "None.",
        [_memory_picture(lab, lengths, peaks, f"vgg8, one sample, frames of {size}×{size}")],
    )


def _peaks(network: Network, lengths: Sequence[int], rule: str, show: ShowProgress) -> list[int]:
    """The peaks of a rule, in bytes, for each length; on one thread, since another process measures another rule."""
    with threadpool_limits(1, user_api="blas"):
        results = bench_memory.measured(network, 1, lengths, rule)
    show(1, rule)
    return [result["peak"] for result in results]


def _memory_picture(lab: Lab, lengths: Sequence[int], peaks: dict[str, list[int]], title: str) -> Path:
    """Draw the peaks against the length; in theory Sideways' are flat, bptt's grow as between the first two."""
    figure, axes = panels(1)
    lines = [Curve(rule, lengths, [peak / 1e6 for peak in values]) for rule, values in peaks.items()]
    flat, (low, high) = peaks["Sideways"][0] / 1e6, (peak / 1e6 for peak in peaks["bptt"][:2])
    per_frame = (high - low) / (lengths[1] - lengths[0])
    growing = [low + per_frame * (t - lengths[0]) for t in lengths]
    label = "theory: flat, or linear in T"
    lines += [Curve(label, lengths, [flat] * len(lengths), theory=True), Curve("", lengths, growing, theory=True)]
    scales = {"xscale": "log", "yscale": "log"}
    draw_lines(axes[0], lines, "length T of a clip (frames)", "peak beyond parameters and frames (MB)", title, **scales)
    axes[0].get_legend().remove()  # inside, it would cover the line of bptt
    handles = axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=2, columnspacing=1, frameon=False, fontsize=9)
    axes[0].minorticks_off()
    axes[0].set_xticks(lengths, [str(t) for t in lengths])
    axes[0].yaxis.set_major_formatter("{x:g}")
    axes[0].set_yticks([10, 20, 50, 100, 200, 500])
    axes[0].set_ylim(min(map(min, peaks.values())) / 2e6, max(growing) * 2)
    return save(figure, lab.directory / "memory.png")


def memory_verdict(lengths: Sequence[int], peaks: dict[str, list[int]]) -> Verdict:
    """Check that Sideways' peak is flat in T (5 %), bptt's grows with T and ends five times as large as Sideways'."""
    flat, growth = (peaks[rule][-1] / peaks[rule][0] for rule in ("Sideways", "bptt"))
    ratio, longer = peaks["bptt"][-1] / peaks["Sideways"][-1], lengths[-1] / lengths[0]
    return judged(
        Check(
            flat <= 1.05,
            f"Sideways' peak grows by at most 5 % when clips are {longer:g} times as long",
            f"{flat:.3f} times",
        ),
        Check(growth >= longer / 2, f"bptt's peak grows at least {longer / 2:g} times", f"{growth:.1f} times"),
        Check(ratio >= 5, "at the longest clip bptt's peak is at least five times Sideways'", f"{ratio:.1f} times"),
    )


CLAIMS = {
    "latency": Claim(
        "Nothing waits: a frame changes the parameters long before backpropagation would.", CVPR2021, latency
    ),
    "parallel": Claim("Units run side by side: K devices give K times the frames per second.", CVPR2020, parallel),
    "memory": Claim("Activations are overwritten: memory does not grow with the length of a clip.", CVPR2020, memory),
}
