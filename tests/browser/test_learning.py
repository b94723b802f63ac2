"""The small networks that learn in the explorer's page: their numbers are the library's, to 1e-10, and they learn."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from explorer_reader import LIVE, click, element, show, text, wait_until
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

import sideways as sw
from sideways.explore.cases import exported_case, small_network

pytestmark = pytest.mark.browser
REPLAY = Path(__file__).with_name("replay.js").read_text(encoding="utf-8") + "return replay(...arguments)"


@st.composite
def cases(draw):
    """Draw the arguments of `exported_case`, and the optimizer in words: depth 1 to 7, skip edges, both merges."""
    depth = draw(st.integers(1, 7))
    possible = [(source, consumer) for consumer in range(2, depth + 1) for source in range(consumer - 1)]
    skips = draw(st.sets(st.sampled_from(possible), max_size=3)) if possible else set()
    merge = draw(st.sampled_from(["concat", "add"]))
    width = draw(st.integers(1, 4))
    widths = [width] * depth if merge == "add" else draw(st.lists(st.integers(1, 4), min_size=depth, max_size=depth))
    classes, batch = draw(st.integers(2, 4)), draw(st.integers(1, 3))
    activations = [draw(st.sampled_from(["none", "relu", "tanh", "tanh"])) for _ in range(depth - 1)] + ["none"]
    merging = [consumer for _, consumer in skips if consumer < depth]
    if merging:  # squares of squares would soon exceed every number
        activations[min(merging) - 1] = "square"
    random = np.random.default_rng(draw(st.integers(0, 999)))
    network = small_network(random, [*widths, classes], sorted(skips), activations, merge)
    length = 2 * depth - 1 + draw(st.integers(0, 6))
    clips = [
        (random.normal(size=(length, batch, widths[0])), random.integers(0, classes, (length, batch))) for _ in range(2)
    ]
    rate = draw(st.sampled_from([0.001, 0.01, 0.03]))
    words = {"name": draw(st.sampled_from(["sgd", "adam"])), "rate": rate, "momentum": draw(st.sampled_from([0, 0.5]))}
    optimizer = sw.SGD(rate, words["momentum"]) if words["name"] == "sgd" else sw.Adam(rate)
    return (network, clips, optimizer, draw(st.integers(1, 2 * depth + 1))), words


def compare(mine, expected, where="case"):
    """Compare two JSON values: every number to 1e-10 of 1 or of its size, everything else exactly."""
    if isinstance(expected, dict):
        assert mine.keys() == expected.keys(), where
        for key, value in expected.items():
            compare(mine[key], value, f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(mine) == len(expected), where
        for k, value in enumerate(expected):
            compare(mine[k], value, f"{where}[{k}]")
    elif isinstance(expected, float):
        assert abs(mine - expected) <= 1e-10 * max(1, abs(expected)), f"{where}: {mine} is not {expected}"
    else:
        assert mine == expected, where


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(case=cases())
def test_losses_outputs_gradients_parameters_and_cosines_of_every_rule_are_the_librarys(page, case):
    arguments, optimizer = case
    exported = exported_case(*arguments)
    ticks = [tick for rule in ("sideways", "delayed", "backprop") for tick in exported[rule]["ticks"]]
    # Where learning diverges, so does rounding.
    assume(all(tick["loss"] is None or tick["loss"] < 100 for tick in ticks))
    computed = page.execute_script(REPLAY, {key: exported[key] for key in ("units", "clips", "learn_every")}, optimizer)
    compare(computed, {key: value for key, value in exported.items() if key in computed})
    assert len(computed) == 6


def test_the_comparison_notices_a_change_of_a_billionth(page):
    case = exported_case(
        small_network(np.random.default_rng(0), [3, 2, 2], [], ["tanh", "none"], "concat"),
        [(np.ones((5, 1, 3)), np.zeros((5, 1), int))],
        sw.SGD(0.1),
        1,
    )
    given_part = {key: case[key] for key in ("units", "clips", "learn_every")}
    computed = page.execute_script(REPLAY, given_part, {"name": "sgd", "rate": 0.1, "momentum": 0})
    compare(computed["sideways"], case["sideways"])
    case["sideways"]["parameters"]["u1"]["weight"][0][0] += 1e-9
    with pytest.raises(AssertionError, match=r"u1\.weight\[0\]\[0\]"):
        compare(computed["sideways"], case["sideways"])


def learnt(page, ticks, **settings):
    """Learn for so many ticks. Returns the accuracy of each rule over the last 100 of them."""
    show(page, LIVE, **settings)
    page.execute_script(
        "for (let t = 0; t < arguments[0]; t++) learnTick(lesson); measureLesson(lesson); render()", ticks
    )
    return page.execute_script(
        "return Object.fromEntries(LEARNERS.map(({rule}) => [rule, curve(lesson.bins[rule]).at(-1).accuracy]))"
    )


def test_on_a_still_film_all_three_learn_where_the_ball_is_and_on_a_fast_one_sideways_does_not(page):
    still = learnt(page, 600, speed=0)
    assert min(still.values()) > 0.85
    fast = learnt(page, 600, speed=2)
    assert fast["blocked"] > 0.85 and fast["delayed"] > 0.85 and fast["sideways"] < 0.7
    assert text(page, ".learner:nth-child(2) .score").startswith(
        f"{round(100 * fast['sideways'])} % right (chance 25 %)"
    )
    cosines = page.execute_script("return lesson.cosines")
    assert min(cosines["delayed"].values()) > 0.9 and cosines["sideways"]["u5"] == pytest.approx(1)
    assert min(cosines["sideways"].values()) < 0.5


def test_which_way_the_ball_rolls_is_seen_by_a_skip_edge_alone(page):
    for skips, least, most in (([[1, 4]], 0.95, 1), ([], 0.3, 0.7)):
        accuracy = learnt(page, 400, task="way", skips=skips, speed=1)
        assert least <= accuracy["delayed"] <= most
        assert 0.3 <= accuracy["blocked"] <= 0.7  # single frames only


def test_three_networks_start_from_the_same_weights_and_a_new_setting_starts_anew(page):
    show(page, LIVE)
    first = "return JSON.stringify(LEARNERS.map(({rule}) => [...lesson.rules[rule].network.units[0].weight.values]))"
    weights = json.loads(page.execute_script(first))
    assert weights[0] == weights[1] == weights[2]
    click(page, "#step")
    assert text(page, "#now") == "tick 1"
    assert json.loads(page.execute_script(first))[1:] == weights[1:]  # no gradient has reached u1 yet
    for _ in range(9):
        click(page, "#step")
    assert json.loads(page.execute_script(first))[1] != weights[1]
    click(page, "#deeper")
    assert text(page, "#now") == "tick 0"
    assert len(page.find_elements(By.CSS_SELECTOR, ".learner")) == 3


def test_it_learns_while_it_plays_and_stops_when_it_pauses(page):
    show(page, LIVE)
    Select(element(page, "#pace")).select_by_visible_text("fast")
    element(page, "body").send_keys(" ")
    wait_until(lambda: int(text(page, "#now").split()[1]) > 100)
    element(page, "body").send_keys(" ")
    stopped = text(page, "#now")
    time.sleep(0.3)
    assert text(page, "#now") == stopped
    assert len(page.find_elements(By.CSS_SELECTOR, ".charts .curve")) == 6


def test_pixels_and_labels_of_a_clip_agree_with_the_places_of_its_balls(page):
    clip = page.execute_script(
        "const c = makeClip(chance(5), 7, 9, 0.5, 'where'), w = makeClip(chance(5), 7, 9, 0.5, 'way');"
        "return {frames: c.frames.map(f => [...f.values]), labels: c.labels, places: c.places, ways: w.labels}"
    )
    frames, places = np.array(clip["frames"]).reshape(9, 7, 16), np.array(clip["places"])
    assert (np.array(clip["labels"]) == places // 4).all()
    apart = np.abs(frames.argmax(axis=2) - places)
    assert np.minimum(apart, 16 - apart).max() <= 0.5
    steps = (np.diff(places, axis=0) + 8) % 16 - 8
    assert steps == pytest.approx(np.where(np.array(clip["ways"])[1:] == 1, 0.5, -0.5))
