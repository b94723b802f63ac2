"""recognition: the three data sets through the whole pipeline, on whatever is at hand, else on small made ones."""

from __future__ import annotations

from pathlib import Path

from sideways.claims.claim import CVPR2021, Bench, Claim, Finding, Rows, recipe
from sideways.claims.pictures import draw_points, panels, save
from sideways.claims.verdict import Check, Verdict, clearly_above, judged, spread
from sideways.data.make import LAYOUTS, make

ARMS = {"Skip-Sideways": "skip", "Sideways, chain": "chain", "exact bptt, skip network": "bptt"}
SKIP, CHAIN, _ = ARMS


def recognition(bench: Bench) -> Finding:
    clips, seeds = bench.pick(40, 240, 240), bench.seeds_of(1, 3, 5)
    places = list(bench.data) or made_sets(bench)
    endings = {arm: ARMS[arm] for arm in (ARMS if bench.effort != "quick" else (SKIP, CHAIN))}
    rows: Rows = []
    figure, axes = panels(len(places), 5.4)
    accuracies: dict[str, dict[str, list[float]]] = {}
    samples: dict[str, int] = {}
    for number, (place, panel) in enumerate(zip(places, axes, strict=True)):
        arms = {}
        for arm, ending in endings.items():
            name, changes = recipe_for(place, ending, bench)
            options = {"data": place} | ({"length": 16} if bench.effort == "quick" else {})
            arms[arm] = recipe(name, **changes or {"clips": clips}, task_options=options)
        runs = bench.train(arms, seeds, f"set-{number + 1}")
        samples[place], chance = runs[SKIP].samples, runs[SKIP].values("chance")
        accuracies[place] = {arm: mine.accuracies for arm, mine in runs.items()}
        words = place if bench.data else f"made in the layout of {place.partition(':')[0]}"
        rows += [
            {
                "data": words,
                "arm": arm,
                "seeds": str(mine.count),
                "held-out accuracy": spread(mine.accuracies),
                "chance": f"{mine.values('chance')[0]:.2f}" if mine.finished else "",
            }
            for arm, mine in runs.items()
        ]
        draw_points(panel, accuracies[place], "held-out accuracy", words, {"chance": chance[0]} if chance else None)
        panel.set_xlim(0, 1.02)
    kind = (
        "the named data sets" if bench.data else "small made sets (moving textures; classes: directions), no real ones"
    )
    return Finding(
        verdict(accuracies, samples, bool(bench.data)),
        "; ".join(
            f"{place.partition(':')[0]} {spread(a[SKIP])} (chain {spread(a[CHAIN])})" for place, a in accuracies.items()
        ),
        f"{kind}, the whole pipeline from files on; recipes videos-small-* (with --full and --data: *-vgg8)",
        rows,
        "The recipes' own.",
        [save(figure, bench.directory / "recognition.png")],
        ""
        if bench.data
        else "These sets only show that the pipeline learns motion from files. For the claim itself: "
        "`sideways claims recognition --full --data ucf101:/path`.",
    )


def made_sets(bench: Bench) -> list[str]:
    """A small one in each layout, of classes that only motion tells."""
    groups, each = bench.pick((9, 1), (25, 2), (25, 2))
    places = []
    for kind in LAYOUTS:
        folder: Path = bench.directory / "sets" / kind
        make(kind, folder, "motion", seed=1, groups=groups, each=each)
        places.append(f"{kind}:{folder}")
    return places


def recipe_for(place: str, ending: str, bench: Bench) -> tuple[str, dict[str, object]]:
    """The recipe of this arm: the large one of a real set where all effort is wanted, else the small one."""
    kind = place.partition(":")[0]
    if not bench.data or bench.effort != "full" or kind not in LAYOUTS:
        return f"videos-small-{ending}", {}
    rule = "bptt" if ending == "bptt" else "sideways"
    return f"{kind}-vgg8{'' if ending == 'chain' else '-skip'}", {"rule": rule}


def verdict(accuracies: dict[str, dict[str, list[float]]], samples: dict[str, int], real: bool) -> Verdict:
    """On every set Skip-Sideways is clearly above the chain; and the sets are real."""
    return judged(
        *(
            clearly_above(
                f"{place.partition(':')[0]}: Skip-Sideways", arms[SKIP], "the chain", arms[CHAIN], samples[place]
            )
            for place, arms in accuracies.items()
        ),
        Check(real, "on real videos of actions", "named by --data" if real else "made sets only"),
    )


CLAIM = Claim("Skip-Sideways recognises actions better than Sideways.", CVPR2021, recognition)
