"""The cells of the explorer, compared with runs of the rules, and the page as a file."""

import re

import numpy as np
import pytest
from graphs import cases, networks, run
from hypothesis import given, settings

import sideways as sw
from sideways.commands.main import main
from sideways.explore.cells import blocked_cells, chain, sideways_cells
from sideways.explore.page import graphs, page


@settings(max_examples=30)
@given(case=cases(most_units=5))
def test_the_cells_show_the_units_that_ran_at_each_tick_of_sideways(case):
    ticks = run(sw.Sideways(case.network, case.loss), case.frames, case.targets)
    for tick, row in zip(ticks, sideways_cells(case.network, len(ticks)), strict=True):
        assert [name for name, cell in row.items() if cell.gradient] == list(tick.gradients)
        assert bool(row[case.network.top.name].activation) == (tick.output is not None)
        assert not any(cell.waiting for cell in row.values())


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


def test_the_page_carries_the_schedule_of_the_library():
    skip = graphs()["5:1>4"]
    network = chain(5, [(1, 4)])
    assert skip["first_backward"] == network.first_backward
    assert skip["to_top"]["u1"] == (2, 4) and network.path_lengths["u1"] == [2, 4]


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
