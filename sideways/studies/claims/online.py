"""online: does a network learn from one endless stream, frame by frame, without clips, batches or a second look?

Each learner predicts the frame two ticks ahead, in a film that plays over and over and in Doom. Blocked backpropagation
through time misses the frames that come while it goes backward. Predictions are measured in the stream, each before its
frame is learnt from, and on other films and maps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy

from sideways.data.doom.process import GameEndedError
from sideways.errors import InputError
from sideways.studies.claims.claim import Claim, Finding, Lab, Rows
from sideways.studies.claims.figures import Curve, draw_lines, panels, save
from sideways.studies.claims.online_course import (
    ADAM,
    BLOCK,
    BLOCKED,
    DELAYED,
    ORTHOGONAL,
    PACE,
    RMSPROP,
    SIDEWAYS,
    SLOW,
    TOP,
    WAITING,
    WINDOW,
)
from sideways.studies.claims.online_runs import (
    GRID,
    LAST,
    LOWER,
    RATES,
    TRIAL_SEED,
    Gains,
    Key,
    Outcomes,
    differences,
    followed,
)
from sideways.studies.claims.online_streams import FILM, HORIZON, OTHER_FILMS, SAMPLE, SIZE, STREAMS
from sideways.studies.claims.verdict import (
    Check,
    Verdict,
    all_of,
    clearly_above_in_pairs,
    counted,
    judged,
    mean_and_error,
)

CARREIRA = "Learning from One Continuous Video Stream, CVPR 2024"


def online(lab: Lab) -> Finding:
    """Learn from both streams by each rule and optimizer, and follow the error in the stream and on held-out frames."""
    seeds, count = lab.seeds_of(1, 3, 5), lab.pick(400, 2000, 6000)
    outcomes: dict[str, Outcomes] = {}
    absent: dict[str, str] = {}  # stream → the reason why it could not be had
    for name in STREAMS:
        try:
            outcomes[name] = followed(lab, name, seeds, count)
        except (InputError, GameEndedError) as error:
            absent[name] = str(error)
    if not outcomes:
        raise InputError("; ".join(f"{name}: {reason}" for name, reason in absent.items()))
    numbers = [f"{name} {_number(of_stream)}" for name, of_stream in outcomes.items()]
    numbers += [f"{name} not run ({reason})" for name, reason in absent.items()]
    size = f"{counted(seeds)}, batch 1"
    by_rule, by_optimizer = ([key for key in RATES if key[n] == word] for n, word in ((1, ADAM), (0, SIDEWAYS)))
    return Finding(
        verdict(outcomes, absent, SIDEWAYS),
        "dB above repeating, in the stream / held out: " + "; ".join(numbers),
        f"predictor-gated, {SIZE}×{SIZE} grey, {HORIZON} frames ahead, {count} frames of each stream, {size}. The film "
        f"is {FILM}, over and over, held out are {' and '.join(OTHER_FILMS)}; the other stream is Doom, with held-out "
        "maps",
        [row for name, of_stream in outcomes.items() for row in _rows(name, of_stream)],
        f"Learning rates {', '.join(f'{rate:g}' for rate in GRID)} for each rule and optimizer (and {LOWER:g} "
        "where the lowest was best), and windows of D, 2D and 4D frames for blocked bptt, by the error in the second "
        f"half of the film with seed {TRIAL_SEED}, without a look at held-out frames or at Doom.",
        [
            _picture(lab.directory / "rules.png", outcomes, by_rule, 0, f"Adam, {size}"),
            _picture(lab.directory / "optimizers.png", outcomes, by_optimizer, 1, f"{SIDEWAYS}, {size}"),
        ],
        _notes(outcomes),
        exact=verdict(outcomes, absent, DELAYED),
    )


# The verdict


def verdict(outcomes: Mapping[str, Outcomes], absent: Mapping[str, str], rule: str) -> Verdict:
    """Check that a rule learns from each stream, that this helps elsewhere, and that blocked bptt learns less.

    absent: stream → the reason why it could not be had. "Above" means more than two standard errors, over seeds and
    samples, of the difference on the same samples.
    """
    learnt, others = [], []
    for name, of_stream in outcomes.items():
        plain, blocked = of_stream[rule, ADAM], of_stream[BLOCKED, ADAM]
        learnt.append(clearly_above_in_pairs(name, plain.inside, "repeating", " dB"))
        others += [
            clearly_above_in_pairs(f"{name}, held out: {rule}", plain.outside(), "repeating", " dB"),
            _above(f"{name}, in the stream: {rule}", plain.inside, BLOCKED, blocked.inside),
            _above(f"{name}, held out: {rule}", plain.outside(), BLOCKED, blocked.outside()),
            *(
                _above(f"{name}, held out: {rule}, {words}", of_stream[rule, words].outside(), ADAM, plain.outside())
                for words in (RMSPROP, SLOW, ORTHOGONAL)
            ),
        ]
    words = f"{rule} predicts each stream itself ({', '.join(outcomes)}) better than repeating does, by more than two "
    first = all_of(f"{words}standard errors", learnt)
    missing = [Check(False, f"{name} was run", reason) for name, reason in absent.items()]
    return judged(first, *missing, *others)


def _above(subject: str, gains: Gains, other: str, others: Gains) -> Check:
    return clearly_above_in_pairs(subject, differences(gains, others), other, " dB")


# Tables and plots


def _rows(name: str, outcomes: Outcomes) -> Rows:
    return [
        {
            "stream": name,
            "rule": rule,
            "optimizer": optimizer,
            "rate": f"{outcome.rate:g}" if optimizer else "",
            "frames answered": f"{numpy.mean([course.answered for course in outcome.courses]):.0%}",
            "in the stream, dB": decibels(outcome.inside),
            "held out, dB": decibels(outcome.outside()),
            "of these": ", ".join(
                f"{title} {decibels(outcome.outside(title))}"
                for title in outcome.courses[0].outside
                if len(outcome.courses[0].outside) > 1
            ),
        }
        for (rule, optimizer), outcome in outcomes.items()
    ]


def decibels(gains: Gains) -> str:
    """The mean and its standard error over seeds and samples, such as `+1.20 ± 0.15`."""
    mean, error = mean_and_error(gains)
    return f"{mean:+.2f} ± {error:.2f}"


def _number(outcomes: Outcomes) -> str:
    """The gains in the stream / held out of the rules with Adam, and of the best baseline."""
    rules = {SIDEWAYS: "Sideways", DELAYED: "`Delayed`", BLOCKED: "blocked bptt"}
    return ", ".join(
        f"{words} {decibels(outcomes[rule, ADAM].inside)} / {decibels(outcomes[rule, ADAM].outside())}"
        for rule, words in rules.items()
    )


def _notes(outcomes: Mapping[str, Outcomes]) -> str:
    """Explain the table, and say how much the units below the top add."""
    alone = []
    for name, of_stream in outcomes.items():
        whole, top = of_stream[SIDEWAYS, ADAM], of_stream[TOP, ADAM]
        inside = decibels(differences(whole.inside, top.inside))
        alone.append(
            f"{name} {inside} dB in the stream, {decibels(differences(whole.outside(), top.outside()))} held out"
        )
    return (
        "Gains are the PSNR above repeating the newest frame, which the untrained network does: in the last "
        f"1/{LAST} of the stream, each frame before it is learnt from; on held-out frames at the end, as the mean of "
        f"the last two looks. ± is the standard error over seeds and samples (a sample: {BLOCK} frames of the stream, "
        f"{SAMPLE[0]} frames of a film, a walk in a map of Doom). A tick, in which a frame comes, is the time of a "
        f"forward and a backward step of a unit. Blocked bptt reads {WINDOW} × D frames, and misses half as many while "
        f"it goes back; only the frames that it answers count. In '{WAITING}' the stream stops meanwhile. In "
        f"'{SLOW}', the gradients of {PACE} ticks are averaged for each update. Beyond its top unit alone the whole "
        f"network, trained by Sideways, gains: {'; '.join(alone)}."
    )


def _picture(path: Path, outcomes: Mapping[str, Outcomes], keys: Sequence[Key], label: int, title: str) -> Path:
    """Draw gains over time, a row of panels for each stream: in the stream on the left, held out on the right.

    label: whether a curve is named by its rule (0) or its optimizer (1).
    """
    figure, axes = panels(2 * len(outcomes), 5.4)
    x, y = "frames of the stream", "PSNR above repeating (dB)"
    for row, (name, of_stream) in enumerate(outcomes.items()):
        inside, outside = [], []
        for key in keys:
            courses = of_stream[key].courses
            blocks = [BLOCK * (k + 1) for k in range(len(courses[0].inside))]
            inside.append(Curve(key[label], blocks, list(zip(*(course.inside for course in courses), strict=True))))
            means = zip(*([0.0, *course.outside_means] for course in courses), strict=True)
            outside.append(Curve(key[label], [0, *courses[0].ticks], list(means)))
        draw_lines(axes[2 * row], inside, x, y, f"{name}, in the stream: {title}")
        draw_lines(axes[2 * row + 1], outside, x, y, f"{name}, held out: {title}")
    return save(figure, path)


CLAIM = Claim(
    "A network learns from one endless stream, a frame at a time; blocked backpropagation, which misses frames, learns "
    "less.",
    CARREIRA,
    online,
)
