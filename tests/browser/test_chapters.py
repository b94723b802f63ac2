"""The explorer's chapters, clock, keyboard and address, its cells and its graph, in a real browser."""

import time

import pytest
from explorer_reader import CHAPTERS, LABORATORY, cell, click, element, show, state, text, wait_until
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from sideways.explore.cells import blocked_cells, chain, delayed_cells, sideways_cells
from sideways.studies.claims import sign_law

pytestmark = pytest.mark.browser


# Chapters -------------------------------------------------------------------------------------------------------------


def test_it_opens_at_the_first_step_of_the_first_chapter(page):
    assert text(page, "#chapter h2") == "1. One frame at a time"
    assert text(page, "#now") == "tick 0 of 19"
    assert [
        f.get_attribute("data-rule") for f in page.find_elements(By.CSS_SELECTOR, "figure") if f.is_displayed()
    ] == ["blocked"]


def test_every_chapter_asks_and_answers_on_request_alone(page):
    for chapter in CHAPTERS:
        click(page, f"#chapters li:nth-child({chapter}) button")
        assert text(page, "#chapter h2").startswith(f"{chapter}. ")
        choices = page.find_elements(By.CSS_SELECTOR, ".choices label")
        assert len(choices) >= 3 and not element(page, "#answer").is_displayed()
        assert not page.find_elements(By.CSS_SELECTOR, ".choices .right")
        right = page.execute_script("return chapterNow().right")
        choices[right].click()
        click(page, "#reveal")
        assert text(page, "#answer").startswith("Right.")
        assert len(text(page, "#answer")) > 120
        show(page, chapter)
        page.find_elements(By.CSS_SELECTOR, ".choices label")[right - 1].click()
        click(page, "#reveal")
        assert text(page, "#answer").startswith(f"Not quite: {choices_of(page)[right]}.")


def choices_of(page):
    return page.execute_script("return chapterNow().choices")


def test_the_right_answers_are_the_librarys(page):
    answers = page.execute_script("return CHAPTERS.map(({choices, right}) => choices[right])")
    five, skip = chain(5), chain(5, [(1, 4)])
    taken = [t for t, row in enumerate(blocked_cells(five, 20)) if row["u1"].activation]
    assert answers[0] == f"frame {taken[1]}"
    cells = sideways_cells(five, 20)
    assert answers[1] == f"frame {cells[6]['u4'].activation[0]}"
    gradient, held = cells[8]["u1"].gradient, cells[8]["u1"].activation
    assert not cells[7]["u1"].gradient
    assert answers[2] == f"of frame {min(gradient, key=lambda pair: pair[1])[0]}; u1 holds frame {held[0]}"
    assert answers[3] == " and ".join(map(str, sideways_cells(skip, 7)[6]["u4"].activation))
    assert sign_law.predictions(skip, "u4", 0.5)["u2"].sign == -1 and answers[4].startswith("negative")
    assert five.marks(1).most_kept("u1") == 9 and answers[5] == str(five.marks(9).most_kept("u1"))
    source, consumer = answers[7].split(" → ")
    frames = sideways_cells(chain(5, [(0, 5)]), 9)[8]["u5"].activation
    assert (source, consumer) == ("frame", "u5") and frames[1] - frames[0] == 4


def test_show_me_sets_the_page_to_where_the_answer_is_seen(page):
    show(page, 3)
    click(page, "#reveal")
    click(page, "#show")
    assert text(page, "#now") == "tick 8 of 19"
    assert "u1 at tick 8 (Sideways)" in text(page, "#cell")
    assert "moments 8 frames apart" in text(page, "#cell")


def test_the_sign_below_the_merge_is_measured_as_it_was_predicted(page):
    for speed in (0.5, 1, 2):
        show(page, 5, speed=speed)
        assert [e.text for e in page.find_elements(By.CSS_SELECTOR, "#signs td:nth-child(5)")][:2] == [
            "undecided", "negative",
        ]  # fmt: skip
        click(page, "#measure")
        measured = page.execute_script("return measured.cosines")
        assert measured["u2"] < -0.3
        assert abs(measured["u3"]) < abs(measured["u2"]) and measured["u4"] > 0.8
        assert measured["u5"] == pytest.approx(1)
        assert text(page, "#signs tbody tr:nth-child(2) td:last-child") == f"−{-measured['u2']:.2f}"


# The clock, the keyboard, the address ---------------------------------------------------------------------------------


def test_the_page_asks_nothing_of_the_network(page):
    assert page.execute_script("return performance.getEntriesByType('resource').map(e => e.name)") == []


def test_it_plays_pauses_and_stops_at_the_end(page):
    Select(element(page, "#pace")).select_by_visible_text("slow")  # half a minute to the end, also on a busy machine
    click(page, "#play")
    wait_until(lambda: int(text(page, "#now").split()[1]) >= 1)
    click(page, "#play")
    stopped = text(page, "#now")
    time.sleep(0.5)
    assert text(page, "#now") == stopped
    Select(element(page, "#pace")).select_by_visible_text("fast")
    page.execute_script("go(18)")
    click(page, "#play")
    wait_until(lambda: text(page, "#play") == "Play")
    assert text(page, "#now") == "tick 19 of 19"


def test_it_steps_and_scrubs(page):
    click(page, "#step")
    click(page, "#step")
    assert text(page, "#now") == "tick 2 of 19"
    click(page, "#back")
    assert text(page, "#now") == "tick 1 of 19"
    element(page, "#scrub").send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert text(page, "#now") == "tick 3 of 19"


def test_the_future_is_hidden_until_it_comes(page):
    show(page, LABORATORY, tick=7)
    visible = """return [...document.querySelectorAll("[data-unit]")]
      .filter((cell) => cell.getBoundingClientRect().width).map((cell) => Number(cell.dataset.tick))"""
    assert max(page.execute_script(visible)) == 7
    click(page, "#step")
    assert max(page.execute_script(visible)) == 8
    element(page, "body").send_keys(Keys.HOME)
    assert max(page.execute_script(visible)) == 0


def test_messages_travel_when_the_clock_steps_but_not_for_readers_who_want_no_motion(page):
    moving = "return document.querySelectorAll('.travelling g').length"
    show(page, 4, tick=8)
    # An activation travels on each of six edges, the frame's among them, and a gradient on five.
    assert page.execute_script(f"step(); {moving}") == 6 + 5
    wait_until(lambda: page.execute_script(moving) == 0)
    still = {"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", still)
    assert page.execute_script(f"step(); {moving}") == 0
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_the_keyboard_alone_steps_plays_and_moves_from_cell_to_cell(page):
    Select(element(page, "#pace")).select_by_visible_text("slow")
    body = element(page, "body")
    body.send_keys("2", Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, ".", ".")
    assert text(page, "#chapter h2") == "2. Nothing waits" and text(page, "#now") == "tick 4 of 19"
    body.send_keys(",", Keys.ARROW_LEFT)
    assert text(page, "#now") == "tick 2 of 19"
    body.send_keys(Keys.END)
    assert text(page, "#now") == "tick 19 of 19"
    body.send_keys(Keys.HOME)
    assert text(page, "#now") == "tick 0 of 19"
    body.send_keys(" ")
    assert text(page, "#play") == "Pause"
    body.send_keys(" ")
    assert text(page, "#play") == "Play"
    show(page, 2, tick=10)
    diagram = element(page, "figure[data-rule=chain] .scroll")
    diagram.send_keys(Keys.ARROW_UP, Keys.ARROW_LEFT)
    assert text(page, "#cell h3") == "u2 at tick 9 (Sideways)"
    assert page.switch_to.active_element == diagram
    diagram.send_keys(Keys.ESCAPE)
    assert not element(page, "#cell").is_displayed()


def test_the_address_holds_the_state_and_restores_it(page, address):
    show(
        page,
        6,
        depth=6,
        skips=[[0, 3], [1, 4]],
        tick=7,
        n=4,
        speed=0.5,
        cell={"rule": "delayed", "unit": "u4", "tick": 7},
    )
    page.execute_script("writeAddress()")
    there, before = page.current_url, state(page)
    assert there.endswith("#chapter=6&depth=6&skips=0-3,1-4&tick=7&cell=delayed.u4.7&n=4&speed=0.5")
    page.get("about:blank")
    page.get(there)
    assert state(page) == before
    assert text(page, "#now") == "tick 7 of 23" and "u4 at tick 7 (Delayed, n = 4)" in text(page, "#cell")
    page.get(address + "#chapter=7&task=way&skips=1-4&rate=0.01&seed=3&waits=false")
    expected = {"chapter": 7, "task": "way", "skips": [[1, 4]], "rate": 0.01, "seed": 3, "waits": False, "speed": 2}
    assert {key: state(page)[key] for key in expected} == expected


@pytest.mark.parametrize(
    "nonsense",
    ["#chapter=99&depth=-1", "#skips=4-1,x&cell=a.b.c&tick=1e9", "#&&=&%%%", "#speed=7&rate=1&task=no&waits=2"],
)
def test_an_address_that_makes_no_sense_opens_the_page_as_it_is(page, address, nonsense):
    page.get("about:blank")
    page.get(address + nonsense)
    assert text(page, "#chapter h2") == "1. One frame at a time" and text(page, "#now") == "tick 0 of 19"


# Cells and edits ------------------------------------------------------------------------------------------------------


def test_a_clicked_cell_tells_its_messages_its_formula_and_the_frames_it_pairs(page):
    show(page, 4, tick=10)
    cell(page, "skip", "u4", 10).click()
    words = text(page, "#cell")
    assert "u4 at tick 10 (Skip-Sideways)" in words
    assert "reads what u3 sent at tick 9: frame 7" in words
    assert "reads what u1 sent at tick 9: frame 9" in words
    assert "input4[10] = a3[9] ‖ a1[9]" in words
    assert "g4[10] = g5→4[9]" in words
    chips = [chip.text for chip in page.find_elements(By.CSS_SELECTOR, "#cell .chip")]
    # Frames read from u3 and u1; frames of the Jacobians of u5, then of u4.
    assert chips == ["7", "9", "5", "7", "7", "9"]
    assert "moments 4 frames apart" in words


def test_a_clicked_cell_of_backpropagation_has_one_frame_throughout(page):
    show(page, 1, tick=12)
    cell(page, "blocked", "u1", 8).click()
    words = text(page, "#cell")
    assert "the exact gradient of frame 0" in words
    assert "at input1[0]" in words  # the activation waited for the gradient


def test_a_clicked_cell_of_delayed_tells_what_waited_what_it_keeps_and_whose_gradient_it_is(page):
    show(page, LABORATORY, tick=15)
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

    show(page, LABORATORY)
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
  cell.querySelectorAll(".kept-inputs rect").length, !!cell.querySelector(".activation"),
  !!cell.querySelector(".gradient")])"""


def test_the_diagram_of_delayed_shows_how_many_inputs_each_unit_keeps_and_no_gradient_where_none_is_pulled(page):
    for n in (1, 4, 9):
        show(page, LABORATORY, n=n)
        shown = page.execute_script(SHOWN)
        cells = delayed_cells(chain(5, [(1, 4)]), n, 20)
        assert len(shown) == 100
        for unit, tick, number, pieces, activation, gradient in shown:
            expected = cells[tick][unit]
            assert number == pieces == len(expected.kept)
            assert (activation, gradient) == (bool(expected.activation), expected.pulled is not None)


def test_a_reader_deepens_the_network_adds_a_skip_edge_and_removes_another(page):
    show(page, LABORATORY, tick=11)
    click(page, "#deeper")
    assert text(page, "#is-latency") == "5 ticks"
    Select(element(page, "#source")).select_by_visible_text("u3")
    Select(element(page, "#consumer")).select_by_visible_text("u6")
    click(page, "#add")
    assert [b.text for b in page.find_elements(By.CSS_SELECTOR, "#skips button")] == ["u1 → u4 ×", "u3 → u6 ×"]
    assert text(page, "#add") == "is there" and not element(page, "#add").is_enabled()
    click(page, "#skips button")
    cell(page, "skip", "u6", 11).click()
    assert "input6[11] = a5[10] ‖ a3[10]" in text(page, "#cell")
    page.execute_script("scrollTo(0, 0)")
    click(page, "#reset")
    assert text(page, "#is-latency") == "4 ticks"
