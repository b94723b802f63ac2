"""The claim `online`: what a learner sees and misses, how gains and errors are counted, and the verdict."""

import json
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sideways.errors import InputError
from sideways.studies.claims import online, online_course, online_runs, online_streams
from sideways.studies.claims.claim import Lab
from sideways.studies.claims.online_course import (
    ADAM,
    BLOCKED,
    DELAYED,
    MARKED,
    ORTHOGONAL,
    RMSPROP,
    SIDEWAYS,
    SLOW,
    WAITING,
    Course,
    Settings,
    gain,
    learn,
    make_learner,
    missed,
    predictions,
)
from sideways.studies.claims.online_streams import HORIZON, Stream
from sideways.studies.claims.verdict import HOLDS, IN_PART, NOT_HERE, clearly_above_in_pairs, mean_and_error

pytestmark = pytest.mark.xdist_group("claims")

SPAN = (-2.0, 2.0)


def stream(count, seed=0, samples=2):
    """A stream of noise that fades from frame to frame, and changes steadily, and held-out samples of such noise."""
    random = np.random.default_rng(seed)

    def fading(*shape):
        frames = random.normal(size=shape)
        for _ in range(2):  # smoothed twice, so that successive changes are alike
            for t in range(1, len(frames)):
                frames[t] = 0.8 * frames[t - 1] + 0.3 * frames[t]
        return frames.astype(np.float32)

    held_out = {"a": fading(8 + HORIZON, samples, 8, 8, 1), "b": fading(9 + HORIZON, 1, 8, 8, 1)}
    return Stream(fading(count + HORIZON, 1, 8, 8, 1), held_out, SPAN)


# Frames that are missed


@st.composite
def graphs(draw):
    """Unit → its consumers, for units 0 … n-1, of which the last is the top and only the first reads the frame."""
    n = draw(st.integers(1, 6))
    skips = draw(st.sets(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=4))
    return {i: sorted({i + 1} & set(range(n)) | {c for j, c in skips if j == i and c > i}) for i in range(n)}


@given(graphs(), st.integers(0, 20))
def test_blocked_bptt_misses_the_frames_that_come_before_every_unit_has_gone_back(consumers, more):
    top, window = len(consumers) - 1, len(consumers) + more
    free = {}  # unit → the half tick in which it has nothing left to do
    done = {}  # (unit, tick) → the half tick in which its backward step is over
    for unit in sorted(consumers, reverse=True):
        free[unit] = 2 * window - 1  # all units have taken their last forward step
        for t in range(window - 1, -1, -1):
            messages = [done[c, t + 1] for c in consumers[unit] if (c, t + 1) in done]
            if (unit == top and t >= top) or messages:
                done[unit, t] = free[unit] = max([free[unit], *messages]) + 1
    next_frame = next(k for k in range(window, 3 * window) if 2 * k >= max(free.values()))
    assert missed(window) == next_frame - window


@pytest.mark.parametrize(("rule", "pause"), [(BLOCKED, 4), (WAITING, 0)])
def test_only_blocked_bptt_misses_frames_and_learns_nothing_from_them(rule, pause):
    one = Settings(rule, ADAM, 1e-2, 1, window=2)  # 8 frames, of which 5 are answered
    seen, changed = stream(36), stream(36)
    for t in range(36):
        if t % (8 + pause) >= 8:
            changed.frames[t] = 0  # as a frame; as a target of frame t - 2 it plays its part
    results = []
    for frames in (seen, changed):
        learner = make_learner(one, frames)
        learner.loss = NoTarget()
        answers = list(predictions(learner, one, frames))
        phases = [t % (8 + pause) for t in range(36)]
        assert [answer is not None for answer in answers] == [3 <= phase < 8 for phase in phases]
        assert learner.ticks == sum(phase < 8 for phase in phases)
        results.append(np.stack([answer for answer in answers if answer is not None]))
    assert np.array_equal(*results)


class NoTarget(online_course.LogMeanSquaredError):
    """A loss that asks for frames of zeros, whatever the target."""

    def __call__(self, output, target):
        return super().__call__(output, np.zeros_like(target))


@pytest.mark.parametrize(
    ("rule", "optimizer"), [*product((SIDEWAYS, DELAYED), (ADAM, SLOW)), (MARKED, ADAM), (BLOCKED, ADAM)]
)
def test_a_prediction_is_made_before_anything_is_learnt_from_its_frame(rule, optimizer):
    one, last = Settings(rule, optimizer, 1e-2, 1), 31
    seen, other = stream(40), stream(40)
    other.frames[last + HORIZON :] += 1
    before, after = [], []
    for frames in (seen, other):
        answers = list(predictions(make_learner(one, frames), one, frames))
        before.append([answer for answer in answers[: last + 1] if answer is not None])
        after.append([answer for answer in answers[last + 1 :] if answer is not None])
    assert len(before[0]) >= 5 and np.array_equal(*map(np.stack, before))
    assert not np.array_equal(*map(np.stack, after))


# Gains and errors


def test_a_course_starts_with_repeating_and_its_gains_are_those_of_its_predictions(monkeypatch):
    monkeypatch.setattr(online_course, "BLOCK", 10)
    one, frames = Settings(SIDEWAYS, RMSPROP, 3e-3, 1), stream(40)
    course = learn(one, frames, lambda done, line: None)
    answers = list(predictions(make_learner(one, frames), one, frames))
    assert course.answered == [0.7, 1, 1, 1] and course.ticks == [5, 10, 15, 20, 25, 30, 35, 40]
    for k in range(4):
        errors = []  # of the network, of repeating
        for t in range(10 * k, 10 * k + 10):
            if answers[t] is not None:
                truth = np.clip(frames.frames[t + HORIZON, 0], *SPAN)
                guesses = (np.clip(guess, *SPAN) for guess in (answers[t], frames.frames[t, 0]))
                errors.append([10 * np.log10(((guess - truth) ** 2).mean()) for guess in guesses])
        ours, repeated = np.transpose(errors)
        assert course.inside[k] == pytest.approx((repeated - ours).mean(), abs=1e-4)
    assert [np.shape(looks) for looks in course.outside.values()] == [(8, 2), (8, 1)]
    frozen = learn(replace(one, rate=1e-30), frames, lambda done, line: None)
    assert frozen.inside == [0] * 4 and frozen.outside_means == [0] * 8
    assert course.outside_means[-1] == pytest.approx(np.mean([*course.outside["a"][-1], *course.outside["b"][-1]]))


def test_a_baseline_is_measured_on_the_frames_of_the_stream(monkeypatch):
    monkeypatch.setattr(online_course, "BLOCK", 10)
    monkeypatch.setitem(online_course.BASELINES, "as before", lambda earlier, newest: newest)
    monkeypatch.setitem(online_course.BASELINES, "one tick late", lambda earlier, newest: earlier)
    course = learn(Settings("as before", "", 0, 1), stream(40), lambda done, line: None)
    assert course.inside == [0] * 4 and course.outside_means == [0, 0]
    late = learn(Settings("one tick late", "", 0, 1), stream(40), lambda done, line: None)
    assert all(value < 0 for value in late.inside + late.outside_means)


def test_a_prediction_that_is_not_finite_counts_as_zeros():
    newest, truth = np.full((1, 8, 8, 1), 0.5), np.ones((1, 8, 8, 1))
    for number in (np.nan, np.inf, -np.inf, 0):
        assert gain(np.full((1, 8, 8, 1), number), newest, truth, SPAN) == pytest.approx(-20 * np.log10(2))


@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 99))
def test_the_error_of_a_mean_has_a_part_over_seeds_and_a_part_over_samples(seeds, samples, seed):
    gains = np.random.default_rng(seed).normal(size=(seeds, samples))
    mean, error = mean_and_error(gains.tolist())
    over_seeds = gains.mean(axis=1).var(ddof=1) / seeds if seeds > 1 else 0
    over_samples = np.mean([row.var(ddof=1) / samples for row in gains]) if samples > 1 else 0
    assert mean == pytest.approx(gains.mean())
    assert error == pytest.approx(np.sqrt(over_seeds + over_samples))
    assert clearly_above_in_pairs("a", (gains - mean + 2.01 * error + 1e-6).tolist(), "b").true
    assert not clearly_above_in_pairs("a", (gains - mean + 1.99 * error - 1e-6).tolist(), "b").true


# The verdict, on made-up numbers


def outcomes(**changed):
    """Outcomes of two seeds on one stream. changed: `RULE_OPTIMIZER` → (gain in the stream, gain held out)."""
    numbers = {
        (SIDEWAYS, ADAM): (2.0, 1.0),
        (SIDEWAYS, RMSPROP): (2.0, 1.5),
        (SIDEWAYS, SLOW): (2.0, 1.5),
        (SIDEWAYS, ORTHOGONAL): (2.0, 1.5),
        (BLOCKED, ADAM): (0.5, 0.2),
    }
    names = {"ADAM": ADAM, "RMSPROP": RMSPROP, "SLOW": SLOW, "ORTHOGONAL": ORTHOGONAL}
    rules = {"SIDEWAYS": SIDEWAYS, "BLOCKED": BLOCKED}
    for name, pair in changed.items():
        rule, optimizer = name.split("_")
        numbers[rules[rule], names[optimizer]] = pair

    def course(inside, outside, shift, sign):
        around = shift + sign * np.array([-0.1, 0.1, -0.1, 0.1])
        looks = [[0.0] * 4, *[list(outside + around)] * 2]
        return Course([0.0] * 12 + list(inside + around), [1.0] * 16, [1, 2, 3], {"a": looks})

    return {
        key: online_runs.Outcome(
            1e-3, [course(*pair, shift, 1 if key == (SIDEWAYS, ADAM) else -1) for shift in (-0.05, 0.05)]
        )
        for key, pair in numbers.items()
    }


def test_online_holds_if_every_stream_is_learnt_and_blocked_bptt_learns_less():
    good = outcomes()
    assert online.verdict({"film": good, "Doom": good}, {}, SIDEWAYS).word == HOLDS
    assert online.verdict({"film": good, "Doom": outcomes(SIDEWAYS_ADAM=(0.05, 1.0))}, {}, SIDEWAYS).word == NOT_HERE
    for worse in (
        {"SIDEWAYS_ADAM": (2.0, 0.05)},  # nothing is learnt that helps elsewhere
        {"BLOCKED_ADAM": (1.99, 0.2)},
        {"BLOCKED_ADAM": (0.5, 0.99)},
        {"SIDEWAYS_RMSPROP": (2.0, 0.9)},
        {"SIDEWAYS_SLOW": (2.0, 1.0)},
        {"SIDEWAYS_ORTHOGONAL": (2.0, 0.5)},
    ):
        verdict = online.verdict({"film": good, "Doom": outcomes(**worse)}, {}, SIDEWAYS)
        assert verdict.word == IN_PART
        assert all(check.rule.startswith("Doom") for check in verdict.checks if not check.true)


def test_online_does_not_hold_as_a_whole_where_a_stream_was_not_run():
    verdict = online.verdict({"film": outcomes()}, {"Doom": "ViZDoom is not installed"}, SIDEWAYS)
    assert verdict.word == IN_PART
    assert [(c.rule, c.found) for c in verdict.checks if not c.true] == [("Doom was run", "ViZDoom is not installed")]


# The experiment, tiny


class Tiny(Lab):
    """A lab in which a stream has 40 frames."""

    def pick(self, quick, normal, full):
        return 40 if quick == 400 else quick


@pytest.fixture
def tiny(monkeypatch):
    """Short samples and few looks; the two streams are noise, and Doom can be taken away."""
    for module in (online, online_course, online_runs):
        monkeypatch.setattr(module, "BLOCK", 10)
    monkeypatch.setattr(online_course, "LOOKS", 2)
    monkeypatch.setattr(
        online_runs,
        "STREAMS",
        {name: lambda seed, count, lead: stream(count - HORIZON, seed) for name in ("film", "Doom")},
    )


def made(seed, count, lead):
    return stream(count - HORIZON, seed)


def no_game(seed, count, lead):
    raise InputError("ViZDoom is not installed")


@pytest.mark.usefixtures("tiny")
def test_online_has_a_row_for_each_learner_and_baseline_and_says_what_was_not_run(tmp_path, monkeypatch):
    monkeypatch.setitem(online_runs.STREAMS, "Doom", no_game)
    finding = online.online(Tiny(tmp_path, "quick"))
    rows = [(row["stream"], row["rule"], row["optimizer"]) for row in finding.rows]
    assert rows == [("film", *key) for key in [*online.RATES, *((name, "") for name in online_course.BASELINES)]]
    assert "Doom not run (ViZDoom is not installed)" in finding.number
    for verdict in (finding.verdict, finding.exact):
        assert verdict.word in (IN_PART, NOT_HERE)
        assert ("Doom was run", False) in [(check.rule, check.true) for check in verdict.checks]
    assert [picture.name for picture in finding.pictures] == ["rules.png", "optimizers.png"]
    assert all(picture.stat().st_size > 10_000 for picture in finding.pictures)


@pytest.mark.usefixtures("tiny")
def test_online_without_any_stream_is_not_run(tmp_path, monkeypatch):
    for name in online_runs.STREAMS:
        monkeypatch.setitem(online_runs.STREAMS, name, no_game)
    with pytest.raises(InputError, match="film: ViZDoom is not installed; Doom: ViZDoom"):
        online.online(Tiny(tmp_path, "quick"))


def test_a_stopped_online_goes_on_after_its_last_run_and_side_by_side_runs_are_the_same(tmp_path, monkeypatch):
    monkeypatch.setitem(online_runs.STREAMS, "film", made)
    few = [Settings(SIDEWAYS, ADAM, 1e-3, seed) for seed in (1, 2)]
    first = online_runs.run_all(Lab(tmp_path), "film", few, 100)
    files = sorted(tmp_path.rglob("*.json"))
    assert len(files) == 2 and len(first[few[0]].inside) == 1
    again = online_runs.run_all(Lab(tmp_path, processes=2), "film", few, 100)
    assert again == first  # bit for bit
    entries = json.loads(files[1].read_text())
    entries["course"]["inside"][0] = 7.0
    files[1].write_text(json.dumps(entries))
    files[0].unlink()
    resumed = online_runs.run_all(Lab(tmp_path, resume=True), "film", few, 100)
    assert resumed[few[0]] == first[few[0]] and resumed[few[1]].inside[0] == 7.0  # read, not run
    monkeypatch.setitem(online_runs.STREAMS, "film", no_game)
    assert online_runs.run_all(Lab(tmp_path, resume=True), "film", few, 100) == resumed  # needs no stream
    with pytest.raises(InputError):
        online_runs.run_all(Lab(tmp_path, resume=True), "film", few, 200)  # other settings


@pytest.mark.usefixtures("tiny")
def test_the_trial_measures_every_rate_and_window_in_the_film_alone(tmp_path, monkeypatch):
    monkeypatch.setitem(online_runs.STREAMS, "Doom", no_game)
    monkeypatch.setattr(online_runs, "RATES", {(SIDEWAYS, ADAM): 1e-3, (BLOCKED, ADAM): 1e-3})
    monkeypatch.setattr(online_runs, "GRID", (1e-2, 1e-1))
    rows = online_runs.trial(Lab(tmp_path), 160)
    assert [(row["rule"], row["window"]) for row in rows] == [
        (SIDEWAYS, ""), *((BLOCKED, f"{n} D") for n in (1, 2, 4))
    ]  # fmt: skip
    seed = online_runs.TRIAL_SEED
    settings = [Settings(SIDEWAYS, ADAM, 1e-2, seed), *(Settings(BLOCKED, ADAM, 1e-2, seed, n) for n in (1, 2, 4))]
    courses = [learn(one, stream(160, seed), lambda done, line: None) for one in settings]
    assert len({course.inside[-1] for course in courses}) == 4
    assert [row["rate 0.01"] for row in rows] == [f"{np.mean(course.inside[8:]):+.2f}" for course in courses]
    for row in rows:  # a lower rate is tried where the lowest of the grid is the best
        assert ("rate 0.0003" in row) == (float(row["rate 0.01"]) >= float(row["rate 0.1"]))
    assert any("rate 0.0003" in row for row in rows)


# The streams


def test_the_film_begins_later_for_each_seed_and_its_held_out_samples_are_other_films():
    one, two = (online_streams.film(seed, 60, 3) for seed in (1, 2))
    assert one.frames.shape == (60, 1, 16, 16, 1) and one.frames.dtype == np.float32
    assert np.array_equal(one.frames[online_streams.LATER :], two.frames[: 60 - online_streams.LATER])
    assert {title: samples.shape for title, samples in one.held_out.items()} == {
        "bigbuckbunny": (25, 6, 16, 16, 1),
        "carphone": (25, 5, 16, 16, 1),
    }
    # The frames predicted in one sample are followed by those of the next.
    samples = one.held_out["carphone"]
    assert np.array_equal(samples[20:, 0], samples[:5, 1])


@pytest.mark.xdist_group("doom")
def test_the_stream_of_doom_is_that_of_stream_doom_and_the_held_out_maps_are_others(monkeypatch):
    monkeypatch.setattr(online_streams, "HELD_OUT", online_streams.HELD_OUT[:1])
    online_streams._held_out_walks.cache_clear()
    made = online_streams.doom(3, 6, 3)
    online_streams._held_out_walks.cache_clear()
    task = online_streams.LiveStream(3, "stream:doom", horizon=HORIZON, size=16, grey=True, live=False)
    clip = task.clip("train", 0, 1)
    assert np.array_equal(made.frames[:4], np.stack([clip.frames[t] for t in range(4)]))
    assert np.array_equal(made.frames[HORIZON:], np.stack([clip.targets[t] for t in range(4)]))
    task.close()
    assert made.held_out["held-out maps"].shape == (65, 1, 16, 16, 1)
    assert made.held_out["held-out maps"].std() > 0.05
