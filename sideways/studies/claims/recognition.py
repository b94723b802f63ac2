"""recognition: which rule recognises motion on which data? A player's motion in Doom, and the user's own data sets.

No single frame of the clips of Doom tells the class. A small made set goes through the whole pipeline for videos, from
files on, and stands in for a data set of the user's.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sideways.data.doom.process import check_installed
from sideways.data.videos.make import LAYOUTS, is_made, make
from sideways.errors import InputError
from sideways.studies.claims.claim import CHAIN, CVPR2021, SKIP, ArmResults, Claim, Finding, Lab, Rows, recipe
from sideways.studies.claims.figures import draw_points, panels, save
from sideways.studies.claims.verdict import Check, Verdict, above, all_of, at_least, clearly_above, judged, spread
from sideways.training.build import build_task
from sideways.training.config import Config

SINGLE, DELAYED, MARKED, BPTT = "backprop, single frames", "Delayed, n = 1", "Delayed, n = 2D-1", "exact bptt"
DOOM = "doom"
ON_DOOM = {  # arm → variant of the recipe
    SINGLE: "backprop",
    CHAIN: "chain",
    SKIP: "skip",
    DELAYED: "delayed",
    MARKED: "marked",
    BPTT: "bptt",
}
ON_VIDEOS = {arm: ON_DOOM[arm] for arm in (CHAIN, SKIP, DELAYED, BPTT)}
STAND_IN = "ucf101"  # layout of the made set
Accuracies = Mapping[str, Mapping[str, list[float]]]  # data set → arm → held-out accuracy of each seed


def recognition(lab: Lab) -> Finding:
    """Train every arm on clips of Doom, on each of the user's data sets, and on a made set if there is none."""
    data_sets = [*([DOOM] if has_doom() else []), *(lab.data or [made_set(lab)])]
    rows: Rows = []
    figure, axes = panels(len(data_sets), 5.2)
    accuracies: dict[str, dict[str, list[float]]] = {}
    samples: dict[str, int] = {}
    for number, (data, panel) in enumerate(zip(data_sets, axes, strict=True)):
        runs = _trained(lab, data, f"set-{number + 1}")
        samples[data], chance = runs[SKIP].samples, runs[SKIP].chance()
        accuracies[data] = {arm: results.accuracies for arm, results in runs.items()}
        rows += [
            {
                "data": words_for(data),
                "arm": arm,
                "seeds": str(results.count),
                "held-out accuracy": spread(results.accuracies),
                "chance": f"{chance:.2f}",
                "held-out clips": str(samples[data]),
            }
            for arm, results in runs.items()
        ]
        draw_points(panel, accuracies[data], "held-out accuracy", words_for(data), {"chance": chance}, ON_DOOM)
        panel.set_xlim(0, 1.02)
    real = [data for data in lab.data if is_real(data)]
    return Finding(
        verdict(accuracies, samples, real),
        "; ".join(
            f"{kind_of(data)}: " + ", ".join(f"{arm} {spread(values)}" for arm, values in arms.items())
            for data, arms in accuracies.items()
        ),
        "Clips of Doom from maps that were not learnt from, recipes doom-*"
        + ("" if has_doom() else " (not run: pip install vizdoom)")
        + "; videos: recipes videos-small-*, or with --full, for a real set, *-vgg8, one seed unless --seeds is given",
        rows,
        TRIED,
        [save(figure, lab.directory / "recognition.png")],
        ""
        if real
        else "The made set only shows that the pipeline learns motion from files. The claim on actions of people takes "
        "days on a few cores: `sideways claims recognition --full --data ucf101:/path`.",
        exact_verdict(accuracies, samples),
    )


TRIED = (
    "The settings of the recipes. Those of Doom were chosen on maps 4 to 20; 17 to 20 were for validation. Before: "
    "300 batches of 32 clips, none in a mirror or backwards, a classifier that sees the mean of the whole image, and "
    "places where a walk changes next to nothing. With one seed, Skip-Sideways reached .462, Delayed .653, and single "
    "frames .141. An earlier version had three made sets of textures alone, one seed: 1.000, chain .42, .33 and .50."
)


def has_doom() -> bool:
    """True if ViZDoom is installed."""
    try:
        check_installed()
    except InputError:
        return False
    return True


def _trained(lab: Lab, data: str, group: str) -> dict[str, ArmResults]:
    """The results of all arms on one data set."""
    if data == DOOM:
        return lab.train(_on_doom(lab), lab.seeds_of(1, 3, 5), group)
    if lab.effort == "full" and is_real(data) and kind_of(data) in LAYOUTS:  # a day for each run
        names = {SKIP: large_recipe(data, "skip"), CHAIN: large_recipe(data, "chain")}
        arms = {arm: recipe(name, task_options={"data": data}) for arm, name in names.items()}
        return lab.train(arms, lab.seeds_of(1, 1, 1), group)
    return lab.train(_on_videos(lab, data), lab.seeds_of(1, 3, 5), group)


def _on_doom(lab: Lab) -> dict[str, Config]:
    """The arms on clips of Doom, which all arms of a seed share."""
    options: dict[str, Any] = {"cache": str(lab.directory / "clips")}
    changes: dict[str, Any] = {"workers": 1}
    variants = ON_DOOM
    if lab.effort == "quick":
        variants = {arm: ON_DOOM[arm] for arm in (CHAIN, SKIP, DELAYED)}
        options |= {"places": 4, "held_out_places": 2}
        changes |= {"clips": 150}
    return {arm: recipe(f"doom-{variant}", task_options=options, **changes) for arm, variant in variants.items()}


def _on_videos(lab: Lab, data: str) -> dict[str, Config]:
    """The arms on a data set of videos, which are decoded once for all runs."""
    chosen = (CHAIN, SKIP) if lab.effort == "quick" else tuple(ON_VIDEOS)
    clips, options = lab.pick(40, 80, 480), {"data": data, "cache": str(lab.directory / "clips")}
    return {arm: recipe(f"videos-small-{ON_VIDEOS[arm]}", clips=clips, task_options=options) for arm in chosen}


def words_for(data: str) -> str:
    """A data set in words."""
    if data == DOOM:
        return "motion of a player of Doom, other maps"
    return data if is_real(data) else f"a made set, in the layout of {kind_of(data)}"


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


def made_set(lab: Lab) -> str:
    """Make a small data set, whose classes only motion tells, unless a run that was stopped has made it already."""
    groups, each = lab.pick((9, 1), (25, 2), (25, 2))
    folder: Path = lab.directory / "sets" / STAND_IN
    if not folder.exists():
        begun = folder.with_name(f"{STAND_IN}.begun")
        shutil.rmtree(begun, ignore_errors=True)
        make(STAND_IN, begun, "motion", seed=1, groups=groups, each=each)
        begun.rename(folder)
    return f"{STAND_IN}:{folder}"


def large_recipe(data: str, variant: str) -> str:
    """The recipe made for a real data set: `ucf101-vgg8` for the chain, `ucf101-vgg8-skip` for Skip-Sideways."""
    return f"{kind_of(data)}-vgg8{'' if variant == 'chain' else '-skip'}"


def verdict(accuracies: Accuracies, samples: Mapping[str, int], real: Sequence[str]) -> Verdict:
    """Check that Skip-Sideways is well above chain and single frames in Doom, and clearly above the chain elsewhere.

    samples: held-out clips of each data set. real: those data sets that hold videos of people's actions.
    """
    clearly = [_clearly(data, SKIP, arms[SKIP], CHAIN, arms[CHAIN], samples[data]) for data, arms in accuracies.items()]
    checks = [all_of("; ".join(check.rule for check in clearly), clearly)]
    if (arms := accuracies.get(DOOM)) is not None:
        others = [arm for arm in (CHAIN, SINGLE) if arm in arms]
        checks += [above(f"doom: {SKIP}", arms[SKIP], arm, arms[arm], 0.25, "") for arm in others]
    if DOOM not in accuracies:
        checks.append(Check(False, "on clips of Doom", "not run: ViZDoom is not installed"))
    return judged(
        *checks, Check(bool(real), "on videos of people's actions", ", ".join(map(kind_of, real)) or "none was named")
    )


def exact_verdict(accuracies: Accuracies, samples: Mapping[str, int]) -> Verdict | None:
    """Check that Delayed reaches .80 in Doom, and is near bptt, and that it is clearly above the chain everywhere."""
    checks = []
    for data, arms in accuracies.items():
        if DELAYED not in arms:
            continue
        checks.append(_clearly(data, DELAYED, arms[DELAYED], CHAIN, arms[CHAIN], samples[data]))
        if data == DOOM:
            checks.append(at_least(f"doom: {DELAYED}", arms[DELAYED], 0.8))
            least = {DELAYED: -0.03, MARKED: -0.05} if BPTT in arms else {}
            checks += [above(f"doom: {arm}", arms[arm], BPTT, arms[BPTT], gap, "") for arm, gap in least.items()]
    return judged(*checks) if checks else None


def _clearly(data: str, arm: str, values: list[float], other: str, others: list[float], samples: int) -> Check:
    """Check that an arm is above another by more than chance; the clips of Doom are other ones for every seed."""
    return clearly_above(f"{kind_of(data)}: {arm}", values, other, others, samples, fixed=data != DOOM)


CLAIM = Claim("Skip-Sideways recognises actions better than Sideways.", CVPR2021, recognition)
