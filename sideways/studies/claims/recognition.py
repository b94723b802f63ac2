"""recognition: the three data sets through the whole pipeline, on whatever is at hand, else on small made ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sideways.data.videos.make import LAYOUTS, is_made, make
from sideways.studies.claims.claim import CVPR2021, Claim, Finding, Lab, Rows, recipe
from sideways.studies.claims.figures import draw_points, panels, save
from sideways.studies.claims.verdict import Check, Verdict, clearly_above, judged, spread
from sideways.training.build import build_task

ARMS = {"Skip-Sideways": "skip", "Sideways, chain": "chain", "exact bptt, skip network": "bptt"}
SKIP, CHAIN, _ = ARMS


def recognition(lab: Lab) -> Finding:
    clips, seeds = lab.pick(40, 80, 240), lab.seeds_of(1, 3, 5)
    places = [*lab.data, *made_sets(lab, {kind_of(place) for place in lab.data})]
    arms_of = {arm: ARMS[arm] for arm in (ARMS if lab.effort != "quick" else (SKIP, CHAIN))}
    rows: Rows = []
    figure, axes = panels(len(places))
    accuracies: dict[str, dict[str, list[float]]] = {}
    samples: dict[str, int] = {}
    for number, (place, panel) in enumerate(zip(places, axes, strict=True)):
        large = lab.effort == "full" and is_real(place) and kind_of(place) in LAYOUTS
        endings = {arm: arms_of[arm] for arm in (SKIP, CHAIN)} if large else arms_of  # a day for each run
        arms = {}
        for arm, ending in endings.items():
            changes = {} if large else {"clips": clips}
            options = {"data": place} | ({"length": 16} if lab.effort == "quick" else {})
            name = large_recipe(place, ending) if large else f"videos-small-{ending}"
            arms[arm] = recipe(name, **changes, task_options=options)
        mine = lab.seeds_of(1, 1, 1) if large else seeds
        runs = lab.train(arms, mine, f"set-{number + 1}")
        samples[place], chance = runs[SKIP].samples, runs[SKIP].chance()
        accuracies[place] = {arm: run.accuracies for arm, run in runs.items()}
        words = place if is_real(place) else f"made, in the layout of {kind_of(place)}"
        rows += [
            {
                "data": words,
                "arm": arm,
                "seeds": str(run.count),
                "held-out accuracy": spread(run.accuracies),
                "chance": f"{chance:.2f}",
            }
            for arm, run in runs.items()
        ]
        draw_points(panel, accuracies[place], "held-out accuracy", words, {"chance": chance}, ARMS)
        panel.set_xlim(0, 1.02)
    real = [place for place in places if is_real(place)]
    return Finding(
        verdict(accuracies, samples, real),
        "; ".join(f"{kind_of(place)} {spread(a[SKIP])} (chain {spread(a[CHAIN])})" for place, a in accuracies.items()),
        f"{', '.join(real) or 'no real data set'}; made for the others (moving textures; classes: directions). The "
        "whole pipeline from files on; recipes videos-small-* (with --full, for a real set: *-vgg8, one seed unless "
        "--seeds)",
        rows,
        "The recipes' own.",
        [save(figure, lab.directory / "recognition.png")],
        ""
        if real
        else "These sets only show that the pipeline learns motion from files. For the claim itself: "
        "`sideways claims recognition --full --data ucf101:/path`, days on a few cores.",
    )


def kind_of(place: str) -> str:
    """The kind of `KIND:PATH`."""
    return place.partition(":")[0]


def is_real(place: str) -> bool:
    """Whether it was not made by `sideways data make`."""
    return not is_made(Path(place.partition(":")[2]))


def check_data(places: Sequence[str]) -> None:
    """Open the data sets of `--data`, so that what is wrong with one is told before anything runs."""
    for place in places:
        build_task(recipe("videos-small-skip", task_options={"data": place}))


def made_sets(lab: Lab, there: set[str]) -> list[str]:
    """A small one in each layout that is not there, of classes that only motion tells."""
    groups, each = lab.pick((9, 1), (25, 2), (25, 2))
    places = []
    for kind in (kind for kind in LAYOUTS if kind not in there):
        folder: Path = lab.directory / "sets" / kind
        make(kind, folder, "motion", seed=1, groups=groups, each=each)
        places.append(f"{kind}:{folder}")
    return places


def large_recipe(place: str, ending: str) -> str:
    """Of a real set, where all effort is wanted."""
    return f"{kind_of(place)}-vgg8{'' if ending == 'chain' else '-skip'}"


def verdict(accuracies: dict[str, dict[str, list[float]]], samples: dict[str, int], real: Sequence[str]) -> Verdict:
    """On every set Skip-Sideways is clearly above the chain; and one of the sets is real."""
    return judged(
        *(
            clearly_above(
                f"{kind_of(place)}: Skip-Sideways", arms[SKIP], "the chain", arms[CHAIN], samples[place], fixed=True
            )
            for place, arms in accuracies.items()
        ),
        Check(bool(real), "on real videos of actions", ", ".join(map(kind_of, real)) or "made sets only"),
    )


CLAIM = Claim("Skip-Sideways recognises actions better than Sideways.", CVPR2021, recognition)
