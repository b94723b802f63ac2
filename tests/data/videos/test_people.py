"""People at a shelf: what their videos show is what their names say, and poses are shared by actions."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sideways.data.videos.datasets import open_set
from sideways.data.videos.ffmpeg import probe
from sideways.data.videos.make import LAYOUTS, GeneratedVideo, actions, make
from sideways.data.videos.people import (
    ACTIONS,
    SECONDS,
    SHELF,
    VIDEOS_OF_EACH,
    Body,
    Person,
    Pose,
    Product,
    _arm,
    poses,
    render,
    shop_of,
)

LABELS = st.integers(0, len(ACTIONS) - 1)
SEEDS = st.integers(0, 2**31)
HAND_IN_SHELF = {  # whether a hand is there at the beginning and at the end
    "reach": (False, True),
    "retract": (True, False),
    "search": (True, True),
    "examine": (False, False),
    "look": (False, False),
}
SHIRT, SKIN, FLOOR = np.array([0.0, 0, 255]), np.array([255.0, 0, 0]), np.full((60, 80, 3), 100.0)


def hand_that_acts(label, seed, count=30):
    """How far ahead of the shoulders the hand is that comes furthest, in pixels at each frame, (count,)."""
    generator = np.random.default_rng(seed)
    person = Person.drawn(generator, 60, 80)
    hands = np.array([pose.hands for pose in poses(label, person, count, 25.0, generator)])  # (count, 2, 2)
    return hands[:, hands[..., 0].max(axis=0).argmax(), 0]


def recorded(patch, name, function):
    """The list of all results of this function of `people`, from now on, as `make` calls it."""
    results = []

    def wrapper(*arguments):
        results.append(function(*arguments))
        return results[-1]

    patch.setattr(f"sideways.data.videos.make.{name}", wrapper)
    return results


@given(SEEDS)
def test_a_hand_reaches_out_draws_back_or_stays(seed):
    reach, retract, search, examine, look = (hand_that_acts(label, seed) for label in range(len(ACTIONS)))
    assert reach[-1] > 11 and reach[-1] - reach[0] > 4
    assert retract[0] > 11 and retract[0] - retract[-1] > 4
    assert search.min() > 9 and np.ptp(search) < 6
    assert examine.max() < 10 and look.max() < 10


@given(SEEDS)
def test_who_draws_back_shows_the_poses_of_who_reaches_out_in_the_opposite_order(seed):
    reach, retract = (hand_that_acts(label, seed) for label in (ACTIONS.index("reach"), ACTIONS.index("retract")))
    assume(abs(reach[0] - retract[-1]) < 2.5)  # both begin or end with the hand down, or both with a product
    assert np.abs(reach - retract[::-1]).max() < 2.5  # pixels of 60 lines: hands tremble


@given(LABELS, SEEDS)
def test_a_hand_is_seen_in_the_shelf_where_its_action_puts_it_there(label, seed):
    generator = np.random.default_rng(seed)
    person = replace(Person.drawn(generator, 60, 80), size=1.0, shirt=SHIRT, sleeves=SHIRT, skin=SKIN, hair=SHIRT)
    first, *_, last = poses(label, person, 30, 25.0, generator)
    for pose, seen in zip((first, last), HAND_IN_SHELF[ACTIONS[label]], strict=True):
        picture = render(
            FLOOR, person, np.array([27.0, 40.0]), replace(pose, aside=0.0), Product(0.1, 0.1, FLOOR[0, 0])
        )
        reddish = (picture[:SHELF, :, 0] > 200) & (picture[:SHELF, :, 2] < 60)
        assert reddish.any() == seen


@given(SEEDS, st.sampled_from([-1, 1]))
def test_who_turns_to_the_right_has_the_right_shoulder_further_down_the_picture(seed, side):
    person = Person.drawn(np.random.default_rng(seed), 60, 80)
    hands = np.array([1.0, -9.0]), np.array([1.0, 9.0])
    body = Body.of(person, person.place, Pose(hands, turn=0.3 * side))
    left, right = body.shoulders
    assert left[1] < right[1] and np.sign(right[0] - left[0]) == side and np.sign(body.ahead[1]) == side


@given(st.tuples(*[st.floats(-20, 20)] * 4), st.floats(0.8, 1.2))
def test_an_arm_has_its_length_wherever_the_hand_is_wanted(points, size):
    shoulder, wanted = np.array(points[:2]), np.array(points[2:])
    along = wanted - shoulder
    assume(np.hypot(*along) > 0.1 and abs(along @ np.array([0.4, -0.3])) > 0.1)  # not straight along the elbow's side
    elbow, hand = _arm(shoulder, wanted, size, np.array([0.3, 0.4]))
    if 2 * size < np.hypot(*along) < 16 * size:
        np.testing.assert_allclose(hand, wanted, atol=1e-6)
    assert np.hypot(*(elbow - shoulder)) == pytest.approx(8.0 * size)
    assert np.hypot(*(hand - elbow)) == pytest.approx(8.5 * size)


@settings(max_examples=10)
@given(LABELS, SEEDS)
def test_a_video_has_its_length_and_shows_a_person_at_the_shelf_that_all_videos_share(label, seed):
    with pytest.MonkeyPatch.context() as patch:
        shops = recorded(patch, "shop_of", shop_of)
        frames = np.stack(list(actions(GeneratedVideo(label, seed % 7, 0), seed, 5.0))).astype(float)
        list(actions(GeneratedVideo(0, 1 + seed % 7, 0), seed, 5.0))
    assert np.array_equal(*shops) and 5 <= len(frames) <= 20 and frames.shape[1:] == (60, 80, 3)
    light = np.median(frames[:, 50:] / shops[0][50:], axis=(1, 2, 3), keepdims=True)
    changed = (np.abs(frames / light - shops[0]).max(axis=-1) > 25).mean(axis=(0, 2))  # the noise is 3
    assert changed[18:40].max() > 0.05 and changed[50:].max() < 0.01


def test_a_group_is_a_person_and_the_same_seed_makes_the_same_videos(monkeypatch):
    persons = recorded(monkeypatch, "Person.drawn", Person.drawn)
    for label, group, number in ((0, 1, 0), (3, 1, 2), (0, 2, 0)):
        next(actions(GeneratedVideo(label, group, number), 3, 5.0))
    assert np.array_equal(persons[0].shirt, persons[1].shirt) and persons[0].size == persons[1].size
    assert not np.array_equal(persons[0].shirt, persons[2].shirt)
    first, again, other = (
        np.stack(list(actions(GeneratedVideo(0, 0, n), seed, 5.0)))[:4] for n, seed in ((0, 3), (0, 3), (1, 3))
    )
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_the_length_of_a_video_does_not_tell_its_action():
    seconds = [[len(list(actions(GeneratedVideo(a, 0, n), 0, 2.0))) / 2 for n in range(60)] for a in range(5)]
    assert all(SECONDS[0] <= min(of_action) < 1.5 and 3.5 < max(of_action) <= SECONDS[1] for of_action in seconds)
    assert np.ptp([np.mean(of_action) for of_action in seconds]) < 0.5


@pytest.mark.parametrize("kind", LAYOUTS)
def test_a_set_of_actions_holds_out_persons_and_has_more_videos_of_some_classes(tmp_path, kind, monkeypatch):
    monkeypatch.setattr("sideways.data.videos.make.SCALE", 1)
    make(kind, tmp_path / "set", "actions", groups=3)
    videos = open_set(f"{kind}:{tmp_path / 'set'}")
    assert len(videos.classes) == 5 and not videos.missing
    counts = [[video.label for video in part] for part in (videos.train, videos.test)]
    for name, count in zip(ACTIONS, VIDEOS_OF_EACH, strict=True):
        label = next(k for k, text in enumerate(videos.classes) if name in text.lower())
        assert [part.count(label) for part in counts] == [2 * count, count]
    assert all(1.0 <= probe(video.path).duration <= 4.1 for video in videos.train)
