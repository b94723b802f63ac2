"""recognition: three data sets through the whole pipeline; a small made set replaces each that is not at hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sideways.data.videos.make import LAYOUTS, is_made, make
from sideways.studies.claims.claim import CHAIN, CVPR2021, SKIP, VARIANTS, Claim, Finding, Lab, Rows, recipe
from sideways.studies.claims.figures import draw_points, panels, save
from sideways.studies.claims.verdict import Check, Verdict, clearly_above, judged, spread
from sideways.training.build import build_task
from sideways.training.config import Config


def recognition(lab: Lab) -> Finding:
    """Train Skip-Sideways, the chain and exact bptt on each data set, and compare their accuracies."""
    data_sets = [*lab.data, *made_sets(lab, {kind_of(data) for data in lab.data})]
    rows: Rows = []
    figure, axes = panels(len(data_sets))
    accuracies: dict[str, dict[str, list[float]]] = {}
    samples: dict[str, int] = {}
    for number, (data, panel) in enumerate(zip(data_sets, axes, strict=True)):
        large = lab.effort == "full" and is_real(data) and kind_of(data) in LAYOUTS
        seeds = lab.seeds_of(1, 1, 1) if large else lab.seeds_of(1, 3, 5)
        runs = lab.train(_arms(lab, data, large), seeds, f"set-{number + 1}")
        samples[data], chance = runs[SKIP].samples, runs[SKIP].chance()
        accuracies[data] = {arm: results.accuracies for arm, results in runs.items()}
        words = data if is_real(data) else f"made, in the layout of {kind_of(data)}"
        rows += [
            {
                "data": words,
                "arm": arm,
                "seeds": str(results.count),
                "held-out accuracy": spread(results.accuracies),
                "chance": f"{chance:.2f}",
            }
            for arm, results in runs.items()
        ]
        draw_points(panel, accuracies[data], "held-out accuracy", words, {"chance": chance}, VARIANTS)
        panel.set_xlim(0, 1.02)
    real = [data for data in data_sets if is_real(data)]
    return Finding(
        verdict(accuracies, samples, real),
        "; ".join(f"{kind_of(data)} {spread(a[SKIP])} (chain {spread(a[CHAIN])})" for data, a in accuracies.items()),
        f"{', '.join(real) or 'no real data set'}; for the others, made sets of moving textures whose classes are "
        "directions. The whole pipeline, from files on; recipes videos-small-* (with --full, for a real set: *-vgg8, "
        "one seed unless --seeds says otherwise)",
        rows,
        "The settings of the recipes.",
        [save(figure, lab.directory / "recognition.png")],
        ""
        if real
        else "Made sets only show that the pipeline learns motion from files. The claim itself takes days on a few "
        "cores: `sideways claims recognition --full --data ucf101:/path`.",
    )


def _arms(lab: Lab, data: str, large: bool) -> dict[str, Config]:
    """The arms for one data set; large: by its own recipe, which takes a day for each run, without bptt."""
    if large:
        names = {arm: large_recipe(data, VARIANTS[arm]) for arm in (SKIP, CHAIN)}
        return {arm: recipe(name, task_options={"data": data}) for arm, name in names.items()}
    options: dict[str, Any] = {"data": data} | ({"length": 16} if lab.effort == "quick" else {})
    variants = {arm: VARIANTS[arm] for arm in (VARIANTS if lab.effort != "quick" else (SKIP, CHAIN))}
    clips = lab.pick(40, 80, 240)
    return {
        arm: recipe(f"videos-small-{variant}", clips=clips, task_options=options) for arm, variant in variants.items()
    }


def kind_of(data: str) -> str:
    """The kind of `KIND:PATH`."""
    return data.partition(":")[0]


def is_real(data: str) -> bool:
    """True if the data set of `KIND:PATH` was not made by `sideways data make`."""
    return not is_made(Path(data.partition(":")[2]))


def check_data(data_sets: Sequence[str]) -> None:
    """Open the data sets of `--data`, so that a broken one is refused before anything runs."""
    for data in data_sets:
        build_task(recipe("videos-small-skip", task_options={"data": data}))


def made_sets(lab: Lab, kinds: set[str]) -> list[str]:
    """Make a small data set, whose classes only motion tells, in each layout that is not among these kinds."""
    groups, each = lab.pick((9, 1), (25, 2), (25, 2))
    data_sets = []
    for kind in (kind for kind in LAYOUTS if kind not in kinds):
        folder: Path = lab.directory / "sets" / kind
        make(kind, folder, "motion", seed=1, groups=groups, each=each)
        data_sets.append(f"{kind}:{folder}")
    return data_sets


def large_recipe(data: str, variant: str) -> str:
    """The recipe made for a real data set: `ucf101-vgg8` for the chain, `ucf101-vgg8-skip` for Skip-Sideways."""
    return f"{kind_of(data)}-vgg8{'' if variant == 'chain' else '-skip'}"


def verdict(accuracies: dict[str, dict[str, list[float]]], samples: dict[str, int], real: Sequence[str]) -> Verdict:
    """Check that Skip-Sideways is clearly above the chain on every set; and that one of the sets is real."""
    return judged(
        *(
            clearly_above(
                f"{kind_of(data)}: Skip-Sideways", arms[SKIP], "the chain", arms[CHAIN], samples[data], fixed=True
            )
            for data, arms in accuracies.items()
        ),
        Check(bool(real), "on real videos of actions", ", ".join(map(kind_of, real)) or "made sets only"),
    )


CLAIM = Claim("Skip-Sideways recognises actions better than Sideways.", CVPR2021, recognition)
