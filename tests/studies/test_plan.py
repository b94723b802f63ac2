"""`sideways bench plan`: the arithmetic of its time line, its counts of memory, and the plan beside an emulated job."""

import json
import math
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from graphs import networks
from hypothesis import given, settings
from hypothesis import strategies as st

from sideways import Delayed, Sideways, SoftmaxCrossEntropy
from sideways.balance import balanced, cost_per_tick, speed_up
from sideways.commands.main import main
from sideways.models import build_model
from sideways.rules.mailbox import Mailbox
from sideways.studies.bench.footprint import most_waiting, of_rank
from sideways.studies.bench.planner import Plan, bound, cut_units, pipeline_of, stages_of
from sideways.studies.bench.timeline import Link, Pipeline, Timeline, Unit, forecast
from sideways.training.memory import between_ticks, of_unit

FREE = Link()
CLOSE = 1 + 1e-9  # the rounding of a long sum of ticks
MEGABYTE = 1e6
few = settings(max_examples=10)


def chain(*costs, message=0.0, gradients=0.0, learn_every=0):
    """A chain of units; a third of each cost is the forward pass."""
    names = ["frame", *(f"u{i}" for i in range(len(costs)))]
    units = {
        name: Unit((below,), cost / 3, 2 * cost / 3, message, gradients)
        for below, name, cost in zip(names, names[1:], costs, strict=False)
    }
    return Pipeline(units, learn_every)


@st.composite
def pipelines(draw, rule="sideways"):
    """Draw a graph of 1 to 7 units, each of which reads the unit below and perhaps others, with costs and messages."""
    names = ["frame"]
    units = {}
    for i in range(draw(st.integers(1, 7))):
        others = draw(st.sets(st.sampled_from(names[:-1]), max_size=2)) if i else set()
        costs = [draw(st.integers(1, 50)) / 1e3 for _ in range(2)]
        sizes = [draw(st.integers(0, 40)) * MEGABYTE for _ in range(2)]
        units[f"u{i}"] = Unit((names[-1], *sorted(others)), *costs, *sizes)
        names.append(f"u{i}")
    return Pipeline(units, draw(st.integers(1, 20)) if rule == "delayed" else 0)


links = st.builds(Link, st.sampled_from([1e8, 1e9, 1e10]), st.sampled_from([0.0, 1e-3, 2e-2]), st.booleans())


def stages(draw, pipeline):
    return stages_of(pipeline, draw(st.integers(1, len(pipeline.units))))


def least_tick(pipeline, groups):
    """The cost of the most expensive group: no rank can do its units faster."""
    return max(sum(map(pipeline.cost, group)) for group in groups)


@few
@given(pipelines(), st.booleans(), st.data())
def test_with_free_links_the_plan_is_the_speed_up_that_the_balance_allows(pipeline, overlaps, data):
    groups = stages(data.draw, pipeline)
    costs = [pipeline.cost(name) for name in pipeline.units]
    ideal = sum(costs) / speed_up(costs, groups)
    assert forecast(pipeline, groups, Link(overlaps=overlaps)).tick == pytest.approx(ideal, rel=1e-9)


@pytest.mark.parametrize("depth", range(2, 8))
def test_with_one_marked_tick_on_the_way_the_ranks_wait_for_the_way_of_its_frame_up_and_its_gradient_down(depth):
    """A unit runs forward once more while its consumers still pull: only the backward passes follow each other."""
    pipeline = chain(*[0.03] * depth, learn_every=2 * depth - 1)  # forward 10 ms, backward 20 ms
    tick = forecast(pipeline, [[name] for name in pipeline.units], FREE).tick
    assert tick * (2 * depth - 1) == pytest.approx(depth * 0.03)


@few
@given(pipelines())
def test_more_ranks_are_never_slower_with_free_links_nor_faster_than_the_slowest_unit(pipeline):
    ticks = [forecast(pipeline, stages_of(pipeline, k), FREE).tick for k in range(1, len(pipeline.units) + 1)]
    assert all(later <= earlier * CLOSE for earlier, later in pairwise(ticks))
    assert ticks[-1] == pytest.approx(max(map(pipeline.cost, pipeline.units)))


@few
@given(st.one_of(pipelines(), pipelines("delayed")), links, st.integers(1, 4), st.data())
def test_no_tick_is_shorter_than_the_work_of_a_rank_or_of_a_link(pipeline, link, replicas, data):
    groups = stages(data.draw, pipeline)
    steady = forecast(pipeline, groups, link, replicas)
    assert steady.tick * (1 + 1e-6) >= least_tick(pipeline, groups)
    assert max(steady.compute) == pytest.approx(least_tick(pipeline, groups))
    if link.overlaps:
        assert steady.tick * (1 + 1e-2) >= max(*steady.sent, *steady.received)
    assert 0 < steady.answer < steady.first_update <= steady.last_update


@few
@given(pipelines(), links, st.integers(1, 4), st.data())
def test_faster_links_and_devices_and_overlap_never_make_a_plan_slower(pipeline, link, replicas, data):
    groups = stages(data.draw, pipeline)
    tick = forecast(pipeline, groups, link, replicas).tick * 1.01  # a rhythm of many ticks is not averaged exactly
    wider = Link(2 * link.speed, link.latency, link.overlaps)
    prompter = Link(link.speed, link.latency / 2, link.overlaps)
    halves = {
        name: Unit(unit.inputs, unit.forward / 2, unit.backward / 2, unit.message, unit.gradients)
        for name, unit in pipeline.units.items()
    }
    assert forecast(pipeline, groups, wider, replicas).tick <= tick
    assert forecast(pipeline, groups, prompter, replicas).tick <= tick
    assert forecast(pipeline, groups, Link(link.speed, link.latency), replicas).tick <= tick
    assert forecast(Pipeline(halves), groups, link, replicas).tick <= tick
    assert forecast(pipeline, groups, link).tick <= tick


@few
@given(*[st.integers(1, 50)] * 2, st.integers(0, 80), st.integers(0, 40))
def test_two_ranks_wait_for_the_slower_one_for_the_link_or_for_three_ticks_of_a_way_there_and_back(a, b, size, latency):
    link = Link(1e9, latency / 1e3)
    steady = forecast(chain(a / 1e3, b / 1e3, message=size * MEGABYTE), [["u0"], ["u1"]], link)
    # F of rank 0, message, F and B of rank 1, message, B of rank 0: the next F of rank 0 is that of three ticks later
    assert 1e3 * steady.tick == pytest.approx(max(a, b, size, (a + b + 2 * (size + latency)) / 3), rel=1e-6)


@few
@given(*[st.integers(1, 50)] * 2, st.integers(0, 80))
def test_without_overlap_a_rank_spends_the_time_of_its_messages_too(a, b, size):
    steady = forecast(chain(a / 1e3, b / 1e3, message=size * MEGABYTE), [["u0"], ["u1"]], Link(1e9, 0.0, False))
    assert 1e3 * steady.tick == pytest.approx(max(a, b) + 2 * size)  # one out, one in


@pytest.mark.parametrize(("replicas", "share", "steps"), [(2, 1, 2), (3, 4 / 3, 4), (4, 1.5, 4), (8, 1.75, 6)])
def test_a_tick_ends_when_the_sums_over_the_replicas_have_arrived(replicas, share, steps):
    steady = forecast(chain(0.030, gradients=10 * MEGABYTE), [["u0"]], Link(1e9, 0.001), replicas)
    assert 1e3 * steady.tick == pytest.approx(30 + share * 10 + steps)
    two = chain(0.030, 0.030, gradients=10 * MEGABYTE)
    steady = forecast(two, [["u0", "u1"]], Link(1e9, 0.001), replicas)
    assert 1e3 * steady.tick == pytest.approx(60 + share * 10 + steps)  # the first unit's sum travels meanwhile


@few
@given(networks(), st.integers(0, 12), st.data())
def test_costs_are_those_of_the_balance(network, learn_every, data):
    passes = [(data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))) for _ in network.units]
    pipeline = pipeline_of(network, 1, passes, learn_every)
    marks = network.marks(learn_every) if learn_every else None
    for name, (forward, backward) in zip(network.units, passes, strict=True):
        assert pipeline.cost(name) == pytest.approx(cost_per_tick(network, name, forward, backward, marks))
    one = forecast(pipeline, [list(network.units)], FREE)
    assert one.tick == pytest.approx(sum(map(pipeline.cost, network.units)))


class Counting(Mailbox):
    """A mailbox that counts, for each edge, the messages that wait at a time or are read at this tick."""

    def begin(self, tick):
        super().begin(tick)
        self.before = set(self._messages)

    def end(self):
        for edge in {key[:2] for key in self._messages}:
            count = sum(key[:2] == edge for key in self.before | set(self._messages))
            self.most[edge] = max(self.most.get(edge, 0), count)


@few
@given(networks(most_units=4, dtypes=("float32",)), st.integers(0, 9))
def test_the_time_line_and_the_messages_that_wait_are_those_of_the_rule(network, learn_every):
    marks = network.marks(learn_every) if learn_every else None
    mailbox = Counting(partial(network.timetable, marks=marks))
    mailbox.most = {}
    kind = partial(Delayed, learn_every=learn_every) if marks else Sideways
    rule = kind(network, SoftmaxCrossEntropy(), boundary="stream", mailbox=mailbox)
    frame, labels = np.zeros((1, *network.input_shape), np.float32), np.zeros(1, int)
    pipeline = pipeline_of(network, 1, [(1, 1)] * len(network.units), learn_every)
    line = Timeline(pipeline, stages_of(pipeline, len(network.units)), Link(1.0, 1.0), 1)
    start, ticks = 3 * network.latency + 1, 4 * network.latency + 2 * learn_every + 2
    for t in range(start + ticks):
        tick = rule.tick(frame, labels)
        if t >= start:
            line.tick(t)
            assert {name for name, at in line.backward_ended if at == t} == set(tick.gradients)
    for (name, at), end in line.backward_ended.items():
        assert end > line.forward_ended[name, at]
    if marks:
        for j, i in network.edges:
            assert most_waiting(marks, network, (i, j)) == mailbox.most.get((i, j), 1)


@pytest.mark.parametrize("learn_every", [1, 3, 9])
def test_the_inputs_that_delayed_keeps_are_counted_to_the_byte(learn_every):
    network = build_model("vgg5", (16, 16, 3), 10)
    sizes = {name: of_unit(network, unit, 1) for name, unit in network.units.items()}
    counted = of_rank(network, list(network.units), 2, 1, learn_every, sizes)
    rule = Delayed(network, SoftmaxCrossEntropy(), learn_every=learn_every, boundary="stream")
    frames = [np.zeros((2, 16, 16, 3), np.float32)] * 30
    kept = [counts["inputs"] for counts in between_ticks(rule, frames, [[0, 1]] * 30)]
    less = counted["kept"] - max(kept)
    if learn_every == 1:  # counted while the tick runs: with the inputs that each unit but the top pulls and forgets
        assert less == sum(4 * 2 * math.prod(network.shapes[u.inputs[0]]) for u in network.units.values()) - 4 * 2 * (
            math.prod(network.shapes[network.top.inputs[0]])
        )
    else:
        assert less == 0 if learn_every == 9 else less >= 0
    parameters = sum(array.nbytes for unit in network.parameters.values() for array in unit.values())
    state = sum(array.nbytes for unit in network.state.values() for array in unit.values())
    assert (counted["parameters"], counted["gradients"]) == (parameters + state, parameters)


def planned(pipeline, stages, link=FREE, replicas=1):
    groups = stages_of(pipeline, stages)
    steady = forecast(pipeline, groups, link, replicas)
    return Plan(stages * replicas, replicas, pipeline, groups, link, steady, steady, [])


def test_the_bound_is_named_and_cutting_the_costliest_unit_gains_what_the_balance_says():
    plan = planned(chain(0.01, 0.01, 0.04, 0.01), 4)
    assert bound(plan) == "u2 on rank 2 (100% of the tick)"
    assert cut_units(plan, False) == ("u2 cut in 2, on 4 ranks,", pytest.approx(0.02))
    assert cut_units(plan, True) == ("u2 cut in 2, on 5 ranks,", pytest.approx(0.02))
    even = planned(chain(0.04, 0.04, 0.01), 3)
    assert cut_units(even, True) == ("u0 cut in 2 and u1 cut in 2, on 5 ranks,", pytest.approx(0.02))
    assert bound(planned(chain(0.01, 0.01, message=50 * MEGABYTE), 2, Link(1e9))) == "the link out of rank 0"
    assert bound(planned(chain(0.01, 0.01), 2, Link(1e9, 0.03))) == "the way from u0 to u1 and back, ranks 0 and 1"
    assert bound(planned(chain(0.01, gradients=20 * MEGABYTE), 1, Link(1e9), 2)) == "the sums over the replicas"


def test_delayed_with_few_marks_waits_where_ranks_pull_at_different_ticks():
    plan = planned(chain(0.03, 0.03, 0.03, learn_every=3), 3)
    # In three ticks, one after the other: three forward passes of 10 ms, two backward passes of 20 ms.
    assert plan.steady.tick == pytest.approx(0.07 / 3)
    assert max(plan.steady.compute) == pytest.approx(0.06 / 3)
    assert bound(plan) == "ranks that pull at different ticks, and so wait for each other"


def command(tmp_path, *options):
    assert main(["bench", "plan", *options, "--json", str(tmp_path / "plan.json")]) == 0
    return json.loads((tmp_path / "plan.json").read_text())["results"]


def test_the_command_plans_from_multiply_adds_and_takes_the_fastest_number_of_replicas(tmp_path, capsys):
    speed = ["--device-gflops", "1", "--link-gbs", "1000", "--link-us", "0.001", "--size", "16"]
    results = command(tmp_path, "vgg8", "--ranks", "1", "8", "17", *speed)["plans"]
    network = build_model("vgg8", (16, 16, 3), 101)
    work = [u.multiply_adds * (2 if u is network.units["conv1"] else 3) for u in network.units.values()]
    assert results[0]["steady"]["tick"] == pytest.approx(8 * 2 * sum(work) / 1e9)
    assert results[1]["replicas"] * len(results[1]["groups"]) == 8
    best = [
        8 * 2 / r / 1e9 * max(sum(work[list(network.units).index(u)] for u in group) for group in groups)
        for r in (1, 2, 4, 8)
        for groups in [balanced(list(network.units), work, 8 // r)]
    ]
    assert results[1]["steady"]["tick"] == pytest.approx(min(best), rel=1e-3)
    assert [result["ranks"] for result in results] == [1, 8]
    output = capsys.readouterr().out
    assert "Not planned: 17 ranks cannot share 8 units" in output
    assert "8 ranks: bounded by" in output


def test_the_command_measures_costs_or_their_shares(tmp_path):
    options = ["vgg5", "--size", "16", "--batch", "2", "--ranks", "2"]
    (here,) = command(tmp_path, *options)["plans"]
    assert here["steady"]["tick"] > 0
    (shares,) = command(tmp_path, *options, "--device-gflops", "1", "--costs", "measure", "--replicas", "1")["plans"]
    network = build_model("vgg5", (16, 16, 3), 101)
    products = sum(u.multiply_adds * (2 if u.inputs == ("frame",) else 3) for u in network.units.values())
    assert sum(shares["steady"]["compute"]) == pytest.approx(2 * 2 * products / 1e9)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--ranks", "16", "--replicas", "1"], "16 ranks cannot share 8 units in 1 replica"),
        (["--ranks", "11", "--batch", "7"], "no number of replicas divides both"),
        (["--ranks", "2", "--replicas", "2", "--batch", "3"], "--batch 3 cannot be split over 2 replicas"),
        (["--learn-every", "3"], "--learn-every goes with --rule delayed"),
        (["--costs", "estimate"], "add --device-gflops"),
        (["--check"], "add --unit-ms"),
        (["--check", "--unit-ms", "5", "--replicas", "2"], "one replica"),
        (["--unit-ms", "5", "--device-gflops", "5"], "--unit-ms sets the costs"),
        (["--set", "classes=3"], "--set classes"),
        (["--units", "3", "--set", "width=3"], "omit --units"),
    ],
)
def test_options_that_do_not_fit_are_refused_in_one_line(options, words, capsys):
    if "--unit-ms" not in options and "--device-gflops" not in options and "--ranks" in options:
        options = [*options, "--unit-ms", "5"]
    assert main(["bench", "plan", "--size", "16", *options]) == 2
    errors = capsys.readouterr().err
    assert words in errors and errors.count("\n") == 1


@pytest.mark.xdist_group("ranks")  # one job at a time
@pytest.mark.parametrize("rule", [["--rule", "sideways"], ["--rule", "delayed", "--learn-every", "5"]])
def test_the_check_runs_the_same_stages_emulated_and_is_never_faster_than_the_plan(rule, tmp_path, capsys):
    options = ["--units", "5", "--size", "8", "--ranks", "3", "--unit-ms", "20", "--check", "--ticks", "5", *rule]
    try:
        main(["bench", "plan", *options, "--json", str(tmp_path / "plan.json")])
    except SystemExit as off:  # a busy machine
        assert off.code == 1 and "off by more than 5%" in capsys.readouterr().out
    results = json.loads((tmp_path / "plan.json").read_text())["results"]
    (check,), (plan,) = results["checks"], results["plans"]
    assert check["planned"] == plan["steady"]["tick"]
    assert check["planned"] >= (0.04 if rule[1] == "sideways" else 2 * (0.02 / 3 + 0.02 / 5))  # by hand
    assert check["measured"] >= 0.99 * check["planned"]
