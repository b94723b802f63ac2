"""People before a shelf: what their videos show is what their names say, and poses are shared by actions."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sideways.data.videos.datasets import open_set
from sideways.data.videos.ffmpeg import probe
from sideways.data.videos.make import GeneratedVideo, actions, make
from sideways.data.videos.people import ACTIONS, SECONDS, TIMES, Person, _arm, poses, shop_of

LABELS = st.integers(0, len(ACTIONS) - 1)
SEEDS = st.integers(0, 2**31)


def hand_that_acts(label, seed, count=30):
    """How far both hands are from their shoulders, pixels ahead, of the hand that moves most: (count,)."""
    generator = np.random.default_rng(seed)
    person = Person.drawn(generator, 60, 80)
    hands = np.array([pose.hands for pose in poses(label, person, count, 25.0, generator)])  # (count, 2, 2)
    far = np.abs(hands[..., 0]).max(axis=0)
    return hands[:, far.argmax(), 0]


@given(SEEDS)
def test_a_hand_reaches_out_draws_back_or_stays(seed):
    reach, retract, search, examine, look = (hand_that_acts(label, seed) for label in range(len(ACTIONS)))
    assert reach[-1] > 12 and reach[-1] - reach[0] > 5
    assert retract[0] > 12 and retract[0] - retract[-1] > 5
    assert search.min() > 9 and np.ptp(search) < 6
    assert examine.max() < 10 and look.max() < 10


@given(SEEDS)
def test_who_draws_back_shows_the_poses_of_who_reaches_out_in_the_opposite_order(seed):
    reach, retract = (hand_that_acts(label, seed) for label in (ACTIONS.index("reach"), ACTIONS.index("retract")))
    assume(abs(reach[0] - retract[-1]) < 2.5)  # both begin or end with the hand down, or both with a product
    assert np.abs(reach - retract[::-1]).max() < 2.5  # pixels of 60 lines: hands tremble


@given(st.tuples(*[st.floats(-20, 20)] * 4), st.floats(0.8, 1.2))
def test_an_arm_has_its_length_wherever_the_hand_is_wanted(points, size):
    shoulder, wanted = np.array(points[:2]), np.array(points[2:])
    elbow, hand = _arm(shoulder, wanted, size, np.array([0.3, 0.4]))
    upper, fore = np.hypot(*(elbow - shoulder)), np.hypot(*(hand - elbow))
    along = wanted - shoulder
    if np.hypot(*along) > 0.1 and abs(along @ np.array([0.4, -0.3])) > 0.1:  # not a point, nor along the elbow's side
        assert upper == pytest.approx(8.0 * size) and fore == pytest.approx(8.5 * size)
        if 2 * size < np.hypot(*along) < 16 * size:
            np.testing.assert_allclose(hand, wanted, atol=1e-6)


@settings(max_examples=10)
@given(LABELS, SEEDS)
def test_a_video_has_its_length_and_a_person_before_the_shelf_of_all(label, seed):
    video = GeneratedVideo(label, group=seed % 7, number=0)
    frames = np.stack(list(actions(video, seed, 5.0))).astype(float)
    shortest, longest = SECONDS[label]
    assert round(shortest * 5) <= len(frames) <= round(longest * 5) and frames.shape[1:] == (60, 80, 3)
    changed = np.abs(frames - shop_of(np.random.default_rng([seed]), 60, 80)).max(axis=-1) > 60
    lines = changed.mean(axis=(0, 2))
    assert lines[20:45].max() > 0.05 and lines[50:].max() < 0.05


def test_a_person_looks_the_same_in_all_videos_of_a_group_and_the_same_seed_makes_the_same_videos():
    drawn = {(g, n): Person.drawn(np.random.default_rng([3, g]), 60, 80) for g in (0, 1) for n in (0, 1)}
    assert np.array_equal(drawn[0, 0].shirt, drawn[0, 1].shirt)
    assert not np.array_equal(drawn[0, 0].shirt, drawn[1, 0].shirt)
    first, again, other = (
        np.stack(list(actions(GeneratedVideo(0, 0, n), seed, 5.0)))[:4] for n, seed in ((0, 3), (0, 3), (1, 3))
    )
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_a_set_of_actions_holds_out_persons_and_has_more_videos_of_some_classes(tmp_path):
    make("ucf101", tmp_path / "set", "actions", groups=3)
    videos = open_set(f"ucf101:{tmp_path / 'set'}")
    assert videos.classes == tuple(name.capitalize() for name in ACTIONS) and not videos.missing
    counts = [
        [video.label for video in part].count(label) for part in (videos.train, videos.test) for label in range(5)
    ]
    assert counts == [2 * times for times in TIMES] + list(TIMES)
    assert not {video.path.stem[-7:-4] for video in videos.train} & {video.path.stem[-7:-4] for video in videos.test}
    assert all(1.0 <= probe(video.path).duration <= 6.1 for video in videos.train)
