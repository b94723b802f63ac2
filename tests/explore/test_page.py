"""The cells of the explorer, compared with runs of the rules, and the page as a file."""

import re
from pathlib import Path

import numpy as np
import pytest
from graphs import cases, networks, run
from hypothesis import given, settings
from hypothesis import strategies as st

import sideways as sw
import sideways.explore as explore_package
from sideways.commands.main import main
from sideways.explore.cells import blocked_cells, chain, delayed_cells, exported, sideways_cells
from sideways.explore.page import PARTS, graphs, page


@settings(max_examples=30)
@given(case=cases(most_units=5))
def test_the_cells_show_the_units_that_ran_at_each_tick_of_sideways(case):
    ticks = run(sw.Sideways(case.network, case.loss), case.frames, case.targets)
    for tick, row in zip(ticks, sideways_cells(case.network, len(ticks)), strict=True):
        assert [name for name, cell in row.items() if cell.gradient] == list(tick.gradients)
        assert bool(row[case.network.top.name].activation) == (tick.output is not None)
        assert not any(cell.waiting for cell in row.values())


class Watched(sw.Delayed):
    """Delayed, which notes what it does: unit → (ticks of the inputs that it keeps, the tick that it pulls or None)."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.notes = {}

    def pull(self, unit, saved):
        kept, pull = sorted(self.kept[unit.name]), super().pull(unit, saved)
        self.notes[unit.name] = (kept, pull and pull[0])
        return pull


@settings(max_examples=60)
@given(case=cases(most_units=5, ticks=lambda network: 4 * network.depth), data=st.data())
def test_the_cells_of_delayed_show_what_a_run_keeps_pulls_and_learns_from_at_each_tick(case, data):
    network = case.network
    n = data.draw(st.integers(1, 2 * network.depth + 1))
    rule = Watched(network, case.loss, sw.SGD(1e-3), learn_every=n)
    cells = delayed_cells(network, n, len(case.frames))
    for t, (frame, target) in enumerate(zip(case.frames, case.targets, strict=True)):
        rule.notes = {name: ([], None) for name in network.units}
        updates = {name: optimizer.updates for name, optimizer in rule.optimizers.items()}
        gradients = rule.tick(frame, target).gradients
        for name, met in rule.trace().items():
            cell = cells[t][name]
            assert (cell.kept, cell.pulled) == rule.notes[name]
            assert cell.learns == (rule.optimizers[name].updates > updates[name])
            assert cell.activation == sorted(frame for frame, _ in met.activation)
            assert cell.gradient == sorted(met.gradient) and bool(cell.gradient) == (name in gradients)
        is_marked = t >= network.latency and (t - network.latency) % n == 0
        assert cells[t][network.top.name].pulled == (t if is_marked else None)


def test_a_skip_edge_brings_an_early_message_that_waits_and_a_second_input_that_is_kept():
    cells = delayed_cells(chain(5, [(1, 4)]), 9, 20)
    # The loss of tick 4 reaches u1 by u4 at tick 6, for the activation of tick 2, and by u2 at tick 8, for tick 0.
    pulls = [(t, row["u1"].pulled) for t, row in enumerate(cells) if row["u1"].pulled is not None]
    assert pulls[:2] == [(6, 2), (8, 0)]
    assert [t for t, row in enumerate(cells) if row["u1"].learns] == [8, 17]
    assert cells[6]["u1"].kept == [0, 2] and cells[8]["u1"].kept == [0]
    # Upwards from frame 0 in u1 at tick 0: u2 at 1, u3 at 2; u4 at 3 and u5 at 4 hold frame 2 too, by the skip edge.
    assert cells[8]["u1"].gradient == [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (2, 3), (2, 4)]


def test_on_a_chain_every_gradient_of_delayed_belongs_to_one_frame():
    for n in (1, 4, 9):
        for row in delayed_cells(chain(5), n, 20):
            assert all(len({frame for frame, _ in cell.gradient}) <= 1 for cell in row.values())


def test_with_seldom_marks_a_chain_keeps_one_input_per_unit_and_with_all_marks_the_deep_units_keep_most():
    seldom, always = exported(chain(5), 20, learn_every=9), exported(chain(5), 20)
    assert seldom["most_kept"] == {"u1": 1, "u2": 1, "u3": 1, "u4": 1, "u5": 0}
    assert always["most_kept"] == {"u1": 9, "u2": 7, "u3": 5, "u4": 3, "u5": 0}
    for values in (seldom, always):
        assert {
            name: max(len(row[name]["kept"]) for row in values["delayed"]) for name in values["most_kept"]
        } == values["most_kept"]


@given(network=networks(most_units=6))
def test_blocked_cells_run_each_unit_once_up_and_once_down_per_cycle_in_an_order_that_waits_for_messages(network):
    cycle = 2 * network.depth - 1
    cells = blocked_cells(network, 2 * cycle)
    for start in (0, cycle):
        rows = cells[start : start + cycle]
        up = {name: [t for t, row in enumerate(rows) if row[name].activation] for name in network.units}
        down = {name: [t for t, row in enumerate(rows) if row[name].gradient] for name in network.units}
        for name, unit in network.units.items():
            assert len(up[name]) == len(down[name]) == 1
            assert up[name][0] <= down[name][0]
            assert all(up[j] < up[name] and down[name] < down[j] for j in unit.inputs if j != "frame")
            waiting = [t for t, row in enumerate(rows) if row[name].waiting]
            assert waiting == list(range(up[name][0] + 1, down[name][0]))
            frames = {frame for row in rows for frame, _ in row[name].gradient}
            assert frames == {start}  # a single frame: the gradient is exact


def test_the_bottom_unit_of_a_chain_of_five_pairs_five_frames_two_apart():
    cell = sideways_cells(chain(5), 12)[11]["u1"]
    assert cell.gradient == [(3, 7), (5, 8), (7, 9), (9, 10), (11, 11)]


def test_a_skip_edge_brings_two_frames_two_ticks_apart_into_one_unit():
    cells = sideways_cells(chain(5, [(1, 4)]), 12)
    assert cells[11]["u4"].activation == [8, 10]
    assert cells[11]["u3"].activation == [9]


def test_the_page_needs_no_other_file_and_no_network():
    html = page()
    assert "@@" not in html
    assert set(re.findall(r"https?://[^\"' )]+", html)) == {
        "http://www.w3.org/2000/svg"
    }  # the name of SVG, which nobody fetches
    assert not re.findall(r"<link[^>]+stylesheet|<script[^>]+src|@import|fetch\(|<img", html)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_the_page_fits_in_one_sitting_and_opens_with_what_it_is(part):
    source = (Path(explore_package.__file__).parent / part).read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 350
    assert part.endswith(".css") or source.removeprefix('"use strict";\n').startswith("// ")


def test_every_script_of_the_folder_is_a_part_of_the_page():
    scripts = {path.name for path in Path(explore_package.__file__).parent.glob("*.js")}
    assert scripts == {part for part in PARTS if part.endswith(".js")}


def test_the_page_carries_the_schedule_of_the_library():
    skip = graphs()["5:1>4"]
    network = chain(5, [(1, 4)])
    assert skip["first_backward"] == network.first_backward
    assert skip["path_lengths"]["u1"] == network.path_lengths["u1"] == [2, 4]
    assert skip["learn_every"] == 1 and skip["most_kept"]["u1"] == network.marks().most_kept("u1") == 9


def test_explore_writes_the_page_and_opens_nothing_if_told_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("webbrowser.open", lambda address: pytest.fail(f"opened {address}"))
    assert main(["explore", "--out", str(tmp_path / "a" / "page.html"), "--no-open"]) == 0
    assert (tmp_path / "a" / "page.html").read_text(encoding="utf-8") == page()
    assert "page.html" in capsys.readouterr().out


def test_explore_opens_the_page_it_wrote(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or True)
    assert main(["explore", "--out", str(tmp_path / "page.html")]) == 0
    assert opened == [(tmp_path / "page.html").as_uri()]


def test_a_place_that_cannot_be_written_is_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["explore", "--out", str(tmp_path / "file" / "page.html"), "--no-open"]) == 2
    assert capsys.readouterr().err.startswith("sideways: cannot write")


def test_chains_of_the_explorer_compute_what_their_schedule_says():
    network = chain(4, [(0, 3), (1, 4)])
    assert {name: unit.inputs for name, unit in network.units.items()}["u4"] == ("u3", "u1")
    assert sw.backprop(network, sw.MeanSquaredError(), np.ones((1, 1)), np.ones((1, 1))).gradients.keys() == {
        "u1", "u2", "u3", "u4",
    }  # fmt: skip
