"""The explorer in a real browser: over many graphs its numbers, labels and pictures are the library's."""

import json

import numpy as np
import pytest
from explorer_reader import LABORATORY, cell, show
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from selenium.webdriver.common.by import By

import sideways as sw
from sideways.balance import balanced, speed_up
from sideways.explore.cells import chain, delayed_cells, exported, sideways_cells
from sideways.explore.page import ticks_shown
from sideways.studies.claims import sign_law

# All examples of a property share one page, which hypothesis warns of; each example sets everything that it reads.
one_page = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])

pytestmark = pytest.mark.browser


# The library's numbers ------------------------------------------------------------------------------------------------


@st.composite
def graphs(draw):
    """Draw a network: each unit reads earlier units or the frame; the last also reads all units without a consumer."""
    count = draw(st.integers(1, 7))
    units = []
    for i in range(count):
        earlier = ["frame", *(f"u{j}" for j in range(i))]
        inputs = set(draw(st.lists(st.sampled_from(earlier), min_size=1, max_size=3)))
        if i == count - 1:
            inputs |= {name for name in earlier[1:] if not any(name in unit.inputs for unit in units)}
        inputs = draw(st.permutations(sorted(inputs)))
        units.append(sw.Unit(f"u{i}", [sw.Dense(len(inputs), 1)], inputs, merge="concat"))
    return sw.Network(units, (1,))


@st.composite
def edits(draw):
    """Draw an edit of the graph: a depth, and skip edges (source, consumer), the frame being 0."""
    depth = draw(st.integers(1, 8))
    possible = [(source, consumer) for consumer in range(2, depth + 1) for source in range(consumer - 1)]
    return depth, sorted(draw(st.sets(st.sampled_from(possible), max_size=5)) if possible else [])


@one_page
@given(network=graphs(), data=st.data())
def test_schedule_and_cells_of_any_graph_are_the_librarys_for_any_marks(page, network, data):
    ticks, n = 4 * network.depth, data.draw(st.integers(1, 2 * network.depth + 1))
    expected = json.loads(json.dumps(exported(network, ticks, n)))
    assert page.execute_script("return explored(...arguments)", expected["units"], ticks, n) == expected


READ = """open(8); edit(arguments[0], arguments[1]);
Object.assign(state, { n: arguments[2], tick: 99 });
render();
const texts = (selector) => [...document.querySelectorAll(selector)].map((element) => element.textContent);
return texts("#now, #dial-words, #is-depth, #is-latency, #is-cycle, #numbers table:first-of-type tbody td, " +
  "#passes-skip, #passes-delayed, #long-run-delayed")"""


@settings(one_page, max_examples=40)
@given(edit=edits(), data=st.data())
def test_the_numbers_on_the_page_follow_every_edit_as_the_library_says(page, edit, data):
    depth, skips = edit
    n = data.draw(st.integers(1, 2 * depth + 1))
    network, last = chain(depth, skips), ticks_shown(depth) - 1
    tick, words, depth_is, latency, cycle, *table, passes, passes_of_delayed, in_the_long_run = page.execute_script(
        READ, depth, skips, n
    )
    assert tick == f"tick {last} of {last}"
    assert [depth_is, latency.split()[0], cycle.split()[0]] == [str(depth), str(network.latency), str(2 * depth - 1)]
    marks = network.marks(n)
    for name, lengths in network.path_lengths.items():
        short, long = lengths[0], lengths[-1]
        apart = f"{2 * short}" if short == long else f"{2 * short} … {2 * long}"
        first = [f"tick {network.first_forward[name]}", f"tick {network.first_backward[name]}"]
        at = table.index(name)
        assert table[at + 1 : at + 5] == [*first, apart, str(marks.most_kept(name))]
    row = sideways_cells(network, last + 1)[last]
    assert int(passes) == sum(bool(c.activation) + bool(c.gradient) for c in row.values()) == 2 * depth
    expected = counted_passes(network, n, 2 * last + n)
    assert int(passes_of_delayed) == expected[last]
    assert float(in_the_long_run) == pytest.approx(sum(expected[-n:]) / n, abs=0.051)  # written with one decimal
    kept = sum(map(marks.most_kept, network.units))
    assert ("no input is kept" if depth == 1 else f"at most {kept} input") in words
    assert f"n\u00a0=\u00a0{n}" in words
    assert ("no parameters change under way" in words) == (n >= 2 * depth - 1 > 1)


def counted_passes(network, learn_every, ticks):
    """The forward and backward passes of all units at each tick, counted while Delayed runs."""
    counts = [0] * ticks
    rule = sw.Delayed(network, sw.MeanSquaredError(), learn_every=learn_every)

    def counted(function):
        def counting(*arguments, **options):
            counts[rule.clock] += 1
            return function(*arguments, **options)

        return counting

    for unit in network.units.values():
        unit.forward, unit.backward = counted(unit.forward), counted(unit.backward)
    for _ in range(ticks):
        rule.tick(np.ones((1, 1), "float32"), np.ones((1, 1), "float32"))
    return counts


def test_the_use_of_devices_is_that_of_the_placement_of_mpi(page):
    for units in range(1, 9):
        for devices in range(1, units + 1):
            costs = [1.0] * units
            ideal = speed_up(costs, balanced([f"u{i}" for i in range(units)], costs, devices)) / devices
            used = page.execute_script("return utilisation(arguments[0], arguments[1], 8)", units, devices)
            assert used["sideways"] == pytest.approx(ideal)
            assert used["blocked"] == pytest.approx(1 / devices)
            assert used["gpipe"] == pytest.approx(ideal * 8 / (8 + devices - 1))


def test_the_graphs_that_the_library_exported_are_those_the_page_would_compute(page):
    same = page.execute_script(
        "return Object.values(GRAPHS).map(g => JSON.stringify(g) === JSON.stringify("
        "{...g, ...explored(g.units, g.sideways.length)}))"
    )
    assert same == [True, True]


@settings(one_page, max_examples=40)
@given(edit=edits(), speed=st.sampled_from([0.5, 1.0, 1.5]))
def test_the_moments_compared_below_a_merge_are_those_of_the_sign_law(page, edit, speed):
    depth, skips = edit
    network = chain(depth, skips[:1])
    rows = page.execute_script("return comparisons(unitsOf(arguments[0], arguments[1]))", depth, skips[:1])
    ratios = {}
    for row in rows:
        ratio = sign_law.opponent(speed * row["paired"]) / sign_law.opponent(speed * row["newer"])
        ratios.setdefault(row["unit"], []).append(ratio)
    merge = next((name for name, unit in network.units.items() if len(unit.inputs) == 2), None)
    expected = sign_law.predictions(network, merge, speed) if merge else {}
    assert {name: sorted(values) for name, values in ratios.items()} == {
        name: pytest.approx(sorted(prediction.ratios)) for name, prediction in expected.items()
    }


@settings(one_page, max_examples=40)
@given(edit=edits(), data=st.data())
def test_a_gradients_full_balls_are_the_frames_of_the_losses_that_it_is_the_gradient_of(page, edit, data):
    """Each loss is followed from the top down: a gradient carries the frames of its loss along every path."""
    depth, skips = edit
    n = data.draw(st.integers(1, 2 * depth + 1))
    network, ticks = chain(depth, skips), ticks_shown(depth)
    shown = page.execute_script(
        "const runs = runsOf({depth: arguments[0], skips: arguments[1], n: arguments[2]});"
        "return ['skip', 'delayed'].map(rule => runs[rule].cells.map((row, t) => Object.fromEntries("
        "runs[rule].units.map(({name}) => [name, runs[rule].lossFrames(name, t)]))))",
        depth, skips, n,
    )  # fmt: skip
    cells, top, marks = sideways_cells(network, ticks), network.top.name, network.marks(n)
    carried = []
    for t in range(ticks):
        carried.append({})
        for name in network.units:
            runs = t >= network.first_backward[name]
            own = cells[t][top].activation if name == top and runs else []
            below = [carried[t - 1][c] for c in network.consumers[name]] if runs else []
            carried[t][name] = sorted({*own, *(frame for frames in below for frame in frames)})
    assert shown[0] == carried

    def frames_of(name, s):
        """The frames of the marked losses that depend on the activation of tick s."""
        if name == top:
            return set(cells[s][top].activation) if marks.is_marked(s) else set()
        return set().union(*(frames_of(c, s + 1) for c in network.consumers[name]))

    for t, row in enumerate(delayed_cells(network, n, ticks)):
        expected = {name: [] if c.pulled is None else sorted(frames_of(name, c.pulled)) for name, c in row.items()}
        assert shown[1][t] == expected


# Labels ---------------------------------------------------------------------------------------------------------------


def meant(label):
    """The frames that a label claims: `2 4 6`; `2 4 … 12` in equal steps; `5–9` for all from 5 to 9."""
    frames, words = [], label.split()
    while words:
        word = words.pop(0)
        if "–" in word:
            first, last = map(int, word.split("–"))
            frames += range(first, last + 1)
        elif word == "…":
            frames += range(2 * frames[-1] - frames[-2], int(words.pop(0)) + 1, frames[-1] - frames[-2])
        else:
            frames.append(int(word))
    return frames


@one_page
@given(
    frames=st.sets(st.integers(0, 40), min_size=1, max_size=12)
    | st.builds(range, st.just(3), st.integers(9, 30), st.integers(2, 4))
)
def test_a_label_can_be_taken_at_its_word(page, frames):
    frames = sorted(frames)
    assert meant(page.execute_script("return setLabel(arguments[0])", frames)) == frames


def test_the_cells_on_the_page_carry_the_numbers_of_their_frames(page):
    show(page, LABORATORY, tick=19)
    for rule, cells in (("chain", sideways_cells(chain(5), 20)), ("skip", sideways_cells(chain(5, [(1, 4)]), 20))):
        for unit, tick in (("u1", 11), ("u3", 9), ("u4", 6), ("u5", 19)):
            labels = [e.text for e in cell(page, rule, unit, tick).find_elements(By.CSS_SELECTOR, "text")]
            expected = cells[tick][unit]
            frames = sorted({frame for frame, _ in expected.gradient})
            assert [meant(label) for label in labels] == [expected.activation, *([frames] if frames else [])]
