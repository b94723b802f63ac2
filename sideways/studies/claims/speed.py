"""latency, parallel and memory: what Sideways is for, measured, beside the line that theory draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy

from sideways.losses import SoftmaxCrossEntropy
from sideways.models import build_model
from sideways.optimizers import SGD
from sideways.rules import Sideways
from sideways.studies.bench import memory as bench_memory
from sideways.studies.bench.pipeline import measured
from sideways.studies.claims.claim import CVPR2020, CVPR2021, Claim, Finding, Lab, Rows
from sideways.studies.claims.figures import Curve, draw_lines, panels, save
from sideways.studies.claims.verdict import Check, Verdict, judged

UNITS = 8  # of the emulated pipeline


def latency(lab: Lab) -> Finding:
    depths = (2, 4, 8, 16)
    ticks = {depth: first_updates(depth) for depth in depths}
    ranks, device = lab.pick((1, 8), (1, 2, 4, 8), (1, 2, 4, 8)), 10
    period = 2 * device
    arguments = ["--units", str(UNITS), "--size", "8", "--emulate-ms", str(device), "--period-ms", str(period)]
    arguments += ["--ticks", str(lab.pick(30, 100, 300))]
    arrived = [measured("latency", method, k, arguments) for k in ranks for method in ("sideways", "backprop")]
    rows: Rows = [
        {
            "network": f"depth {depth}",
            "first update a frame causes": f"tick {found['first']}",
            "its loss trains the top": f"tick {found['top']}",
            "… and the bottom unit": f"tick {found['bottom']}",
            "backprop": f"tick {2 * depth - 1}",
            "updates per frame that arrives": "",
        }
        for depth, found in ticks.items()
    ]
    for k in ranks:
        ours, theirs = (r for r in arrived if r["ranks"] == k)
        rows.append(
            {
                "network": f"{UNITS} units on {k} rank{'s' if k > 1 else ''}",
                "first update a frame causes": f"{1e3 * soonest(ours):.0f} ms",
                "its loss trains the top": "",
                "… and the bottom unit": f"{1e3 * own_loss(ours, period):.0f} ms" if k == UNITS else "",
                "backprop": f"{1e3 * soonest(theirs):.0f} ms",
                "updates per frame that arrives": f"{ours['updates_per_frame']:.2f}, backprop "
                f"{theirs['updates_per_frame']:.2f}",
            }
        )
    figure, axes = panels(2)
    lines = [
        Curve("first update a frame causes", depths, [found["first"] for found in ticks.values()]),
        Curve("its loss has trained the top", depths, [found["top"] for found in ticks.values()]),
        Curve("its loss has trained the bottom unit", depths, [found["bottom"] for found in ticks.values()]),
        Curve("backprop: 2D - 1", depths, [2 * depth - 1 for depth in depths], theory=True),
    ]
    draw_lines(
        axes[0], lines, "depth D (units)", "ticks after a frame's arrival, its own included", "Sideways, in ticks"
    )
    lines = [
        Curve(method, ranks, [1e3 * soonest(r) for r in arrived if r["method"] == method])
        for method in ("sideways", "backprop")
    ]
    title = f"{UNITS} emulated devices of {device} ms, a frame every {period} ms"
    draw_lines(axes[1], lines, "ranks", "ms from a frame's arrival to its first update", title, ylim=(0, None))
    widest = {result["method"]: result for result in arrived if result["ranks"] == max(ranks)}
    return Finding(
        latency_verdict(ticks, widest),
        f"emulated, {max(ranks)} ranks: the first update that a frame takes part in after "
        f"{1e3 * soonest(widest['sideways']):.0f} ms, its own loss at the bottom after "
        f"{1e3 * own_loss(widest['sideways'], period):.0f} ms; backprop {1e3 * soonest(widest['backprop']):.0f} ms",
        f"mlps of 2 to 16 units in ticks; `sideways bench latency {' '.join(arguments)}` in milliseconds",
        rows,
        "None: devices are emulated, since this is about the schedule.",
        [save(figure, lab.directory / "latency.png")],
        "The first update that a frame causes is made with its activation and the gradient of an older frame. Its own "
        "loss trains the bottom unit in tick 2D - 1 (in milliseconds by this schedule: that tick takes the frame that "
        "comes 2D - 2 periods later). For a frame by itself backpropagation is sooner; it misses those that come while "
        "it works.",
    )


def soonest(result: dict[str, Any]) -> float:
    """Mean seconds from a frame's arrival to the first update that used it."""
    return min(result["age_in_parameters"].values())


def own_loss(result: dict[str, Any], period: float) -> float:
    """Seconds from a frame's arrival until its own loss has trained the bottom unit, a rank for each unit.

    That is in tick 2D - 1, and by the update made with the frame that arrives 2D - 2 periods (ms) later.
    """
    return (2 * UNITS - 2) * period / 1e3 + result["age_in_parameters"][next(iter(result["age_in_parameters"]))]


def first_updates(depth: int) -> dict[str, int]:
    """Ticks from a frame's arrival, its own included, until parameters differ because of it, or of its target alone.

    Two streams that differ in one frame, or in one target, at a tick when all units are busy.
    """
    length, shape = 5 * depth, (2, 2, 1)
    random = numpy.random.default_rng(depth)
    frames = random.normal(size=(length, 4, *shape)).astype(numpy.float32)
    targets = random.integers(0, 4, (length, 4))
    changed = 2 * depth
    other_frames, other_targets = frames.copy(), targets.copy()
    other_frames[changed] += 1
    other_targets[changed] = (targets[changed] + 1) % 4

    def stream(frames: Any, targets: Any) -> list[dict[str, numpy.ndarray]]:
        network = build_model("mlp", shape, 4, hidden=[8] * (depth - 1), activation="tanh")
        rule = Sideways(network, SoftmaxCrossEntropy(), SGD(0.05), boundary="stream")
        seen = []
        for frame, target in zip(frames, targets, strict=True):
            rule.tick(frame, target)
            seen.append(
                {name: numpy.concatenate([a.ravel() for a in p.values()]) for name, p in network.parameters.items()}
            )
        return seen

    plain, by_frame, by_target = stream(frames, targets), stream(other_frames, targets), stream(frames, other_targets)

    def first(other: Sequence[dict[str, numpy.ndarray]], names: Sequence[str]) -> int:
        differs = (t for t in range(length) if any(not numpy.array_equal(plain[t][n], other[t][n]) for n in names))
        return next(differs) - changed + 1

    names = list(plain[0])
    return {"first": first(by_frame, names), "top": first(by_target, names[-1:]), "bottom": first(by_target, names[:1])}


def latency_verdict(ticks: dict[int, dict[str, int]], widest: dict[str, dict[str, Any]]) -> Verdict:
    """A frame takes part in an update sooner than in backprop, in milliseconds and ticks, and none is missed."""
    soon = {depth: found["first"] for depth, found in ticks.items()}
    ours, theirs = (soonest(widest[method]) for method in ("sideways", "backprop"))
    rate, blocked = (widest[method]["updates_per_frame"] for method in ("sideways", "backprop"))
    return judged(
        Check(
            ours < theirs,
            "a frame takes part in an update sooner than in backprop, in milliseconds, on all ranks",
            f"{1e3 * ours:.0f} against {1e3 * theirs:.0f}",
        ),
        Check(
            rate >= 0.95 > blocked,
            "Sideways updates for at least .95 of the frames that arrive, blocked backprop for fewer",
            f"{rate:.2f} against {blocked:.2f}",
        ),
        Check(
            all(first < 2 * depth - 1 for depth, first in soon.items()),
            "in ticks, that is before tick 2D - 1",
            ", ".join(f"D = {depth}: {first}" for depth, first in soon.items()),
        ),
        Check(
            all(found["bottom"] == 2 * depth - 1 for depth, found in ticks.items()),
            "its own loss reaches the bottom unit in tick 2D - 1, no sooner and no later",
            ", ".join(str(found["bottom"]) for found in ticks.values()),
        ),
    )


def parallel(lab: Lab) -> Finding:
    ranks, device = (1, 2, 4, 8), 20
    arguments = ["--units", str(UNITS), "--size", "8", "--emulate-ms", str(device)]
    arguments += ["--ticks", str(lab.pick(4, 10, 30))]
    methods = ("sideways", "backprop")
    seconds = {m: [measured("pipeline", m, k, arguments)["seconds_per_tick"] for k in ranks] for m in methods}
    gains = {method: [times[0] / value for value in times] for method, times in seconds.items()}
    rows: Rows = [
        {
            "what": f"{method}, emulated devices",
            "ranks": str(k),
            "ms per tick": f"{1e3 * s:.1f}",
            "speed-up": f"{g:.2f}",
        }
        for method in methods
        for k, s, g in zip(ranks, seconds[method], gains[method], strict=True)
    ]
    real: list[float] = []
    if lab.effort != "quick":
        vgg = ["--model", "vgg8", "--size", "56"]
        times = [measured("pipeline", "sideways", k, vgg)["seconds_per_tick"] for k in (1, 2)]
        real = [times[0] / value for value in times]
        rows += [
            {
                "what": "sideways, vgg8 on real cores",
                "ranks": str(k),
                "ms per tick": f"{1e3 * s:.1f}",
                "speed-up": f"{g:.2f}",
            }
            for k, s, g in zip((1, 2), times, real, strict=True)
        ]
    figure, axes = panels(1)
    lines = [Curve(method, ranks, gains[method]) for method in methods]
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


def parallel_verdict(ranks: Sequence[int], gains: dict[str, list[float]], real: Sequence[float]) -> Verdict:
    """At least .8 K on K ranks, where blocked backprop gains nothing; on two real cores at least 1.5."""
    checks = [
        Check(
            all(gain >= 0.8 * k for k, gain in zip(ranks, gains["sideways"], strict=True)),
            "Sideways on K ranks at least .8 K times as fast as on one",
            ", ".join(f"K = {k}: {gain:.2f}" for k, gain in zip(ranks, gains["sideways"], strict=True)),
        ),
        Check(max(gains["backprop"]) < 1.5, "blocked backprop less than 1.5 times", f"{max(gains['backprop']):.2f}"),
    ]
    if real:
        checks.append(Check(real[-1] >= 1.5, "vgg8 on two real cores at least 1.5 times", f"{real[-1]:.2f}"))
    return judged(*checks)


def memory(lab: Lab) -> Finding:
    lengths, size = lab.pick((16, 64), (16, 64, 256), (16, 64, 256)), lab.pick(32, 56, 112)
    results = bench_memory.measured(build_model("vgg8", (size, size, 3), 101), 1, lengths)
    peaks = {
        rule: [r["peak"] for r in results if r["rule"] == rule] for rule in dict.fromkeys(r["rule"] for r in results)
    }
    rows: Rows = [
        {"rule": rule, **{f"T = {t}, MB": f"{peak / 1e6:.1f}" for t, peak in zip(lengths, values, strict=True)}}
        for rule, values in peaks.items()
    ]
    figure, axes = panels(1)
    lines = [Curve(rule, lengths, [peak / 1e6 for peak in values]) for rule, values in peaks.items()]
    flat, (low, high) = peaks["Sideways"][0] / 1e6, (peak / 1e6 for peak in peaks["bptt"][:2])
    each = (high - low) / (lengths[1] - lengths[0])
    grows = [low + each * (t - lengths[0]) for t in lengths]
    lines += [Curve("theory: flat; a constant and so much per frame", lengths, [flat] * len(lengths), theory=True)]
    lines += [Curve("", lengths, grows, theory=True)]
    title = f"vgg8, one sample, frames of {size}×{size}"
    scales = {"xscale": "log", "yscale": "log"}
    draw_lines(axes[0], lines, "length T of a clip (frames)", "peak beyond parameters and frames (MB)", title, **scales)
    axes[0].minorticks_off()
    axes[0].set_xticks(lengths, [str(t) for t in lengths])
    axes[0].yaxis.set_major_formatter("{x:g}")
    axes[0].set_yticks([10, 20, 50, 100, 200, 500])
    axes[0].set_ylim(min(map(min, peaks.values())) / 2e6, max(grows) * 4)
    return Finding(
        memory_verdict(lengths, peaks),
        f"T = {lengths[-1]}: Sideways {peaks['Sideways'][-1] / 1e6:.1f} MB, bptt {peaks['bptt'][-1] / 1e6:.1f} MB",
        f"`sideways bench memory --size {size} --lengths {' '.join(map(str, lengths))}`",
        rows,
        "None.",
        [save(figure, lab.directory / "memory.png")],
    )


def memory_verdict(lengths: Sequence[int], peaks: dict[str, list[int]]) -> Verdict:
    """Sideways' peak is flat in T (5 %), bptt's grows with it, and is five times as large at the longest clip."""
    flat, growth = (peaks[rule][-1] / peaks[rule][0] for rule in ("Sideways", "bptt"))
    ratio, longer = peaks["bptt"][-1] / peaks["Sideways"][-1], lengths[-1] / lengths[0]
    return judged(
        Check(
            flat <= 1.05,
            f"Sideways' peak grows by at most 5 % when clips are {longer:g} times as long",
            f"{flat:.3f} times",
        ),
        Check(growth >= longer / 2, f"bptt's grows at least {longer / 2:g} times", f"{growth:.1f} times"),
        Check(ratio >= 5, "at the longest clip bptt's is at least five times Sideways'", f"{ratio:.1f} times"),
    )


CLAIMS = {
    "latency": Claim(
        "Nothing waits: a frame changes the parameters long before backpropagation would.", CVPR2021, latency
    ),
    "parallel": Claim("Units run side by side: K devices give K times the frames per second.", CVPR2020, parallel),
    "memory": Claim("Activations are overwritten: memory does not grow with the length of a clip.", CVPR2020, memory),
}
