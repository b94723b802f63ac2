"""smooth: Sideways relies on neighbouring frames being alike. Where does it stop? Strides 1 to 16, and shuffled.

Shuffled frames are those of stride 16: moments of a slow stream are near each other in any order.
"""

from __future__ import annotations

import numpy

from sideways.claims.claim import CVPR2020, Bench, Claim, Finding, Rows, Runs, recipe
from sideways.claims.pictures import Line, draw_lines, panels, save
from sideways.claims.verdict import Check, Verdict, counted, difference, error_of, judged, spread
from sideways.errors import DivergedError
from sideways.plots import read_metrics

STRIDES = (1, 2, 4, 8, 16)
SPEED = 0.5  # pixels per frame at stride 1
SHUFFLED = "shuffled"
SHOWN = {"1": "stride 1", "16": "16", SHUFFLED: "shuffled"}
ARMS = {"Sideways": "bands-chain", "backprop": "bands-backprop"}


def smooth(bench: Bench) -> Finding:
    seeds, clips = bench.seeds_of(1, 3, 5), bench.pick(40, 250, 250)
    cases = [*map(str, STRIDES), SHUFFLED]
    arms = {}
    for arm, name in ARMS.items():
        for case in cases:
            options = (
                {"speed": SPEED * STRIDES[-1], "shuffled": True} if case == SHUFFLED else {"speed": SPEED * int(case)}
            )
            every = max(1, clips // 5) if arm == "Sideways" else 0
            arms[f"{arm} {case}"] = recipe(name, clips=clips, cosine_every=every, task_options=options)
    runs = bench.train(arms, seeds)
    accuracy = {arm: {case: runs[f"{arm} {case}"].accuracies for case in cases} for arm in ARMS}
    cosine = {case: cosines(runs[f"Sideways {case}"]) for case in cases}
    units = list(dict.fromkeys(unit for case in cases for unit in cosine[case]))
    if not units:
        raise DivergedError("every run of Sideways diverged")
    rows: Rows = [
        {
            "stride": case,
            "px per frame": "random" if case == SHUFFLED else f"{SPEED * int(case):g}",
            **{f"accuracy, {arm}": spread(accuracy[arm][case]) for arm in ARMS},
            **{f"cosine, {unit}": f"{numpy.mean(values):+.2f}" for unit, values in cosine[case].items()},
        }
        for case in cases
    ]
    figure, axes = panels(2)
    x = [*STRIDES, 2 * STRIDES[-1]]
    marks = {"xscale": "log", "xticks": x}
    about = f"Wavelength of waves, {clips} clips, {counted(seeds)}"
    lines = [Line(arm, x, [accuracy[arm][case] for case in cases], apart=True) for arm in ARMS]
    draw_lines(axes[0], lines, f"stride (× {SPEED} px per frame)", "held-out accuracy", about, **marks)
    lines = [Line(unit, x, [cosine[case].get(unit, []) for case in cases], apart=True) for unit in units]
    title = "Pseudo-gradient against exact, mean over training"
    draw_lines(axes[1], lines, f"stride (× {SPEED} px per frame)", "cosine, one batch", title, **marks)
    for panel in axes:
        panel.minorticks_off()
        panel.set_xticks(x, [*map(str, STRIDES), SHUFFLED])
    bottom = {case: float(numpy.mean(values[units[0]])) for case, values in cosine.items() if values}
    ours, exact = (accuracy[arm] for arm in ARMS)
    return Finding(
        verdict(ours, exact, bottom, runs[f"Sideways {cases[0]}"].samples),
        "accuracy, Sideways (backprop): "
        + ", ".join(f"{words} {spread(ours[c])} ({spread(exact[c])})" for c, words in SHOWN.items()),
        f"vgg5 on the wavelength of waves, {clips} clips, {counted(seeds)}; cosines to exact bptt, of single batches",
        rows,
        "The recipes' own; a stride of s makes uniformly gliding waves glide s times as fast.",
        [save(figure, bench.directory / "smooth.png")],
    )


def cosines(runs: Runs) -> dict[str, list[float]]:
    """unit → the mean over training of its logged cosines, for each seed."""
    found: dict[str, list[float]] = {}
    for directory in runs.directories:
        lines = read_metrics(directory, "cosine")
        for unit in lines[0]["cosines"]:
            found.setdefault(unit, []).append(float(numpy.mean([line["cosines"][unit] for line in lines])))
    return found


def verdict(
    sideways: dict[str, list[float]], backprop: dict[str, list[float]], bottom: dict[str, float], samples: int
) -> Verdict:
    """What Sideways lacks to backprop grows as the stream gets rougher: the claim. On a smooth one it lacks little."""
    lacks = {case: -difference(sideways[case], backprop[case])[0] for case in sideways}
    error = {case: error_of(sideways[case], backprop[case], samples) for case in sideways}
    smoothest, fastest = (str(STRIDES[i]) for i in (0, -1))
    falls = [bottom[str(stride)] for stride in STRIDES if str(stride) in bottom]

    def grows(case: str, words: str) -> Check:
        gap, uncertain = lacks[case] - lacks[smoothest], (error[case] ** 2 + error[smoothest] ** 2) ** 0.5
        rule = f"what Sideways' accuracy lacks to backprop's is larger {words} than at stride 1, by two standard errors"
        return Check(
            gap > 2 * uncertain, rule, f"{lacks[case]:.3f} against {lacks[smoothest]:.3f}: {gap:+.3f} ± {uncertain:.3f}"
        )

    return judged(
        grows(SHUFFLED, "on shuffled frames of stride 16"),
        grows(fastest, "at stride 16"),
        Check(lacks[smoothest] <= 0.05, "at stride 1 it lacks at most .05", f"{lacks[smoothest]:.3f}"),
        Check(
            len(falls) > 1 and falls[0] - falls[-1] >= 0.2,
            "the bottom unit's cosine falls by .2 from stride 1 to 16",
            _listed(falls),
        ),
    )


def _listed(values: list[float]) -> str:
    return ", ".join(f"{value:+.2f}" for value in values)


CLAIM = Claim("Sideways works because neighbouring frames are alike; it needs a smooth stream.", CVPR2020, smooth)
