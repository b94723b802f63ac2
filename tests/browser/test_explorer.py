"""The explorer in a real browser: over many graphs it shows the library's numbers, and it plays, steps and edits."""

import json
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

import sideways as sw
from sideways.balance import balanced, speed_up
from sideways.explore.cells import chain, delayed_cells, exported, sideways_cells
from sideways.explore.page import ticks_shown

pytestmark = pytest.mark.browser
# All examples of a property share one page, which hypothesis warns of; each example sets everything that it reads.
one_page = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def element(page, selector):
    return page.find_element(By.CSS_SELECTOR, selector)


def text(page, selector):
    return element(page, selector).text


def click(page, selector):
    element(page, selector).click()


def cell(page, rule, unit, tick):
    return element(page, f"figure[data-rule={rule}] [data-unit={unit}][data-tick='{tick}']")


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


READ = """Object.assign(state, { now: 1000, learnEvery: arguments[2] }); edit(arguments[0], arguments[1]);
const texts = (selector) => [...document.querySelectorAll(selector)].map((element) => element.textContent);
return texts("#tick, #dial-words, #is-depth, #is-latency, #is-cycle, #numbers table:first-of-type tbody td, " +
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


def test_the_page_asks_nothing_of_the_network(page):
    assert page.execute_script("return performance.getEntriesByType('resource').map(e => e.name)") == []


def test_it_plays_pauses_and_stops_at_the_end(page):
    click(page, "#first")
    assert text(page, "#tick") == "tick 0 of 19"
    Select(element(page, "#speed")).select_by_visible_text("fast")
    click(page, "#play")
    wait_until(lambda: int(text(page, "#tick").split()[1]) >= 2)
    click(page, "#play")
    stopped = text(page, "#tick")
    time.sleep(0.5)
    assert text(page, "#tick") == stopped
    page.execute_script("go(18)")
    click(page, "#play")
    wait_until(lambda: text(page, "#play") == "Play")
    assert text(page, "#tick") == "tick 19 of 19"


def wait_until(condition, seconds=5):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)


def test_it_steps_and_scrubs(page):
    click(page, "#step")
    assert text(page, "#tick") == "tick 12 of 19"
    click(page, "#back")
    click(page, "#back")
    assert text(page, "#tick") == "tick 10 of 19"
    element(page, "#scrub").send_keys(Keys.ARROW_LEFT)
    assert text(page, "#tick") == "tick 9 of 19"


def test_the_keyboard_alone_steps_plays_and_moves_from_cell_to_cell(page):
    body = element(page, "body")
    body.send_keys(".")
    assert text(page, "#tick") == "tick 12 of 19"
    body.send_keys(",", ",")
    assert text(page, "#tick") == "tick 10 of 19"
    body.send_keys(" ")
    assert text(page, "#play") == "Pause"
    body.send_keys(" ")
    assert text(page, "#play") == "Play"
    diagram = element(page, "figure[data-rule=chain] .scroll")
    diagram.send_keys(Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_LEFT)
    assert text(page, "#cell h2") == "u2 at tick 9 (Sideways)"
    assert page.switch_to.active_element == diagram


def test_a_clicked_cell_tells_its_messages_its_formula_and_the_frames_it_pairs(page):
    cell(page, "skip", "u4", 10).click()
    words = text(page, "#cell")
    assert "u4 at tick 10 (Skip-Sideways)" in words
    assert "reads what u3 sent at tick 9: frame 7" in words
    assert "reads what u1 sent at tick 9: frame 9" in words
    assert "u4[10] = a3[9] ‖ a1[9]" in words
    assert "g4[10] = g5→4[9]" in words
    chips = [chip.text for chip in page.find_elements(By.CSS_SELECTOR, "#cell .chip")]
    assert chips == [
        "7",
        "9",
        "5",
        "7",
        "7",
        "9",
    ]  # frames read from u3 and u1; frames of the Jacobians of u5, then of u4
    assert "moments 4 frames apart" in words


def test_a_clicked_cell_of_backpropagation_has_one_frame_throughout(page):
    cell(page, "blocked", "u1", 8).click()
    words = text(page, "#cell")
    assert "the exact gradient of frame 0" in words
    assert "at u1[0]" in words  # the activation waited for the gradient


def test_a_clicked_cell_of_delayed_tells_what_waited_what_it_keeps_and_whose_gradient_it_is(page):
    cell(page, "delayed", "u1", 15).click()
    words = text(page, "#cell")
    assert "u1 at tick 15 (Delayed, n = 1)" in words
    assert "reads what u2 sent at tick 14 and what u4 sent at tick 10 (it has waited for 4 ticks)" in words
    assert "runs again on the input of tick 7, which it kept for 8 ticks" in words
    assert "g1[7] = g2→1[8] + g4→1[8]" in words
    assert "exact gradient of the marked losses of ticks 9 and 11" in words
    assert "9, of ticks 7 … 15." in words


def test_the_dial_marks_fewer_losses_and_the_keyboard_turns_it(page):
    def flags():
        return page.execute_script("return document.querySelectorAll('figure[data-rule=delayed] .marked').length")

    assert text(page, "#n-is") == "n = 1" and flags() == 16  # ticks 4 … 19
    element(page, "#n").send_keys(Keys.ARROW_RIGHT)
    assert text(page, "#n-is") == "n = 2" and flags() == 8
    element(page, "#n").send_keys(Keys.END)
    assert text(page, "#n-is") == "n = 11" and flags() == 2
    element(page, "#n").send_keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert text(page, "#n-is") == "n = 9"
    assert text(page, "#dial-words") == (
        "n = 9: one loss in 9 is learnt from, so each unit learns once in 9 frames (1/9 update per frame); "
        "the units keep at most 5 inputs in total. As n ≥ 2D − 1 = 9, no parameters change under way: "
        "this is gradient descent on the exact gradient of the marked losses."
    )
    for _ in range(3):
        click(page, "#shallower")
    assert text(page, "#n-is") == "n = 5"  # 2D+1 is the most
    click(page, "#reset")
    assert text(page, "#n-is") == "n = 1"


SHOWN = """return [...document.querySelectorAll("figure[data-rule=delayed] [data-unit]")].map((cell) => [
  cell.dataset.unit, Number(cell.dataset.tick), Number(cell.querySelector(".kept-inputs text")?.textContent ?? 0),
  cell.querySelectorAll(".kept-inputs rect").length, cell.querySelectorAll(":scope > g:not(.kept-inputs)").length])"""


def test_the_diagram_of_delayed_shows_how_many_inputs_each_unit_keeps_and_no_gradient_where_none_is_pulled(page):
    for n in (1, 4, 9):
        page.execute_script("state.learnEvery = arguments[0]; render()", n)
        shown = page.execute_script(SHOWN)
        cells = delayed_cells(chain(5, [(1, 4)]), n, 20)
        assert len(shown) == 100
        for unit, tick, number, pieces, bands in shown:
            expected = cells[tick][unit]
            assert number == pieces == len(expected.kept)
            assert bands == bool(expected.activation) + (expected.pulled is not None)


def test_a_reader_deepens_the_network_adds_a_skip_edge_and_removes_another(page):
    click(page, "#deeper")
    assert text(page, "#is-latency") == "5 ticks"
    Select(element(page, "#source")).select_by_visible_text("u3")
    Select(element(page, "#consumer")).select_by_visible_text("u6")
    click(page, "#add")
    assert text(page, "#skips").replace("  ", " ").splitlines() == ["u1 → u4 ×", "u3 → u6 ×"]
    click(page, "#skips li:first-child button")
    cell(page, "skip", "u6", 11).click()
    assert "u6[11] = a5[10] ‖ a3[10]" in text(page, "#cell")
    click(page, "#reset")
    assert text(page, "#is-latency") == "4 ticks"


def test_on_a_phone_only_the_diagrams_scroll_sideways(page):
    try:
        page.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
        )
        page.execute_script("render()")
        assert page.execute_script("return document.documentElement.scrollWidth") == 390
        sizes = page.execute_script("return [...document.querySelectorAll('button')].map(b => b.offsetHeight)")
        assert min(sizes) >= 38
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_theme_follows_the_system_and_a_button_turns_it(page):
    background = "return getComputedStyle(document.body).backgroundColor"
    light = page.execute_script(background)
    click(page, "#theme")
    dark = page.execute_script(background)
    assert light == "rgb(255, 255, 255)" and dark != light
    dark_system = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    page.refresh()
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", dark_system)
    assert page.execute_script(background) == dark
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_every_number_reads_on_the_colour_of_its_frame(page):
    """WCAG 2, level AA, asks for a contrast of at least 4.5."""

    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    for pair in page.execute_script("return FRAME_COLOURS"):
        dark, light = sorted(map(luminance, pair))
        assert (light + 0.05) / (dark + 0.05) >= 4.5
