"""The page on Delayed: its drawings, its tables and its arithmetic say what `sw.Delayed` does when it runs."""

import copy
import re
from fractions import Fraction
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from graphs import chain, clip, equal, run
from moved import host

import sideways as sw
from sideways.models import build_model

PAGE = (Path(__file__).parent.parent.parent / "docs" / "delayed.md").read_text(encoding="utf-8")


def drawing(heading):
    """Read a drawing of the page: (name of a row, tick) → the text of the cell. heading: the drawing's first line."""
    blocks = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    ((_, head, *rows),) = [block.splitlines() for block in blocks if block.startswith(heading + "\n")]
    columns = [(match.start(), int(match[0])) for match in re.finditer(r"\d+", head)]
    cells = {}
    for row in rows:
        name = row[: columns[0][0]].strip()
        for (start, tick), (end, _) in pairwise([*columns, (None, None)]):
            cells[name, tick] = row[start:end].strip()
    return cells


def table(corner):
    """Read a table of the page: first cell of a row → its other cells. corner: the first cell of the table's head."""
    lines = PAGE[PAGE.index(f"| {corner} |") :].split("\n\n")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {first: others for first, *others in (rows[0], *rows[2:])}


class Watched(sw.Delayed):
    """Delayed, which records what its units and its mailbox do, each with the tick."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.keeps, self.pulled, self.learnt = set(), set(), set()  # (unit, tick), (unit, s, tick), (unit, tick)
        self.sent, self.read = {}, {}  # (sender, receiver, s) → tick
        self.most_kept = dict.fromkeys(self.network.units, 0)
        self.mailbox.send, self.send = self.watched_send, self.mailbox.send
        self.mailbox.receive, self.receive = self.watched_receive, self.mailbox.receive

    def watched_send(self, sender, receiver, message, s):
        self.sent[sender, receiver, s] = self.clock
        self.send(sender, receiver, message, s)

    def watched_receive(self, sender, receiver, s):
        message = self.receive(sender, receiver, s)
        if message is not None:
            self.read[sender, receiver, s] = self.clock
        return message

    def tick(self, frame, target, **options):
        t, parameters = self.clock, copy.deepcopy(self.network.parameters)
        before = {(name, s) for name, kept in self.kept.items() for s in kept}
        tick = super().tick(frame, target, **options)
        after = {(name, s) for name, kept in self.kept.items() for s in kept}
        pulled = before - after
        if self.network.top.name in tick.gradients:
            pulled.add((self.network.top.name, t))  # the top keeps nothing
        assert {name for name, _ in pulled} == set(tick.gradients)
        self.keeps |= after - before
        self.pulled |= {(name, s, t) for name, s in pulled}
        self.learnt |= {(name, t) for name, own in self.network.parameters.items() if not equal(parameters[name], own)}
        for unit, most in self.most_kept.items():
            self.most_kept[unit] = max(most, sum(name == unit for name, _ in before | after))
        return tick


def vgg5_skip():
    """The network of the page."""
    return build_model("vgg5-skip", (8, 8, 1), 4, width=2)


def video(ticks):
    """A random video for the network, with labels."""
    random = np.random.default_rng(0)
    return random.normal(size=(ticks, 2, 8, 8, 1)).astype("float32"), random.integers(0, 4, (ticks, 2))


def watched(learn_every, ticks):
    """A run of the network of the page on a random video: the rule, with its records."""
    rule = Watched(vgg5_skip(), sw.SoftmaxCrossEntropy(), sw.SGD(0.1), learn_every=learn_every, boundary="stream")
    run(rule, *video(ticks))
    return rule


def cell(rule, unit, tick):
    """Draw what happened in a unit at a tick, in the signs of the page."""
    if tick < rule.network.first_forward[unit]:
        return "·"
    keep = "k" if (unit, tick) in rule.keeps else ""
    pulls = "".join(str(s) for name, s, at in rule.pulled if (name, at) == (unit, tick))
    return keep + pulls + ("!" if (unit, tick) in rule.learnt else "") or "-"


def test_the_drawing_of_eighteen_ticks_is_what_delayed_does_on_vgg5_skip():
    cells, rule = drawing("vgg5-skip, learn_every=9"), watched(9, 18)
    assert len(cells) == 5 * 18 and {name for name, _ in cells} == set(rule.network.units)
    assert cells == {(unit, tick): cell(rule, unit, tick) for unit, tick in cells}


def test_the_drawing_of_the_bottom_unit_is_what_it_does_with_nine_and_with_eight_ticks_between_two_losses():
    cells = drawing("conv1, learn_every=9 and 8")
    assert len(cells) == 2 * 13
    rules = {"n = 9": watched(9, 13), "n = 8": watched(8, 13)}
    assert cells == {(name, tick): cell(rules[name], "conv1", tick) for name, tick in cells}


def test_the_drawing_of_one_activation_shows_where_the_parts_of_its_gradient_wait():
    cells, rule = drawing("vgg5-skip, learn_every=1: the activation of tick 4 of conv1"), watched(1, 13)
    depends = {("conv1", 4)}  # the activations that the one of conv1 leads to
    for unit, s in (depended := [("conv1", 4)]):
        depended += [(consumer, s + 1) for consumer in rule.network.consumers[unit]]
        depends |= set(depended)
    expected = dict.fromkeys(cells, "")
    for unit, s in depends & rule.keeps:
        expected[unit, s] = "k"
    for unit, s, tick in rule.pulled:
        if (unit, s) in depends:
            expected[unit, tick] += str(s)
    waits = {}
    for consumer in rule.network.consumers["conv1"]:
        sent, read = (record[consumer, "conv1", 5] for record in (rule.sent, rule.read))
        waits[consumer] = read - sent - 1
        expected |= {(f"{consumer} to conv1", tick): "waits" for tick in range(sent, read)}
        expected |= {(f"{consumer} to conv1", sent): "sent", (f"{consumer} to conv1", read): "read"}
    assert cells == expected
    assert waits == {"conv2": 0, "conv4": 4}


def test_the_table_of_kept_inputs_is_what_the_units_keep():
    head, *rows = (([first, *cells]) for first, cells in table("most inputs kept").items())
    for n, row in zip((1, 9), rows, strict=True):
        assert row[0] == rf"\(n = {n}\)"
        assert dict(zip(head[1:], map(int, row[1:]), strict=True)) == watched(n, 40).most_kept


RULES = {
    "Sideways": sw.Sideways,
    r"Delayed, \(n = 1\)": partial(sw.Delayed, learn_every=1),
    r"Delayed, \(n = 9\)": partial(sw.Delayed, learn_every=9),
}


def test_the_table_of_passes_counts_the_calls_of_forward_and_backward():
    (_, *rows) = table("passes per frame, all units").items()
    assert [name for name, _ in rows] == list(RULES)
    for name, cells in rows:
        network, (frames, targets) = vgg5_skip(), video(9 + 18)
        rule = RULES[name](network, sw.SoftmaxCrossEntropy())
        run(rule, frames[:9], targets[:9])  # from now on all periods of nine ticks are alike
        calls = []
        for unit in network.units.values():
            unit.forward = counted(unit.forward, "forward", calls)
            unit.backward = counted(unit.backward, "backward", calls)
        run(rule, frames[9:], targets[9:])
        shown = [sum(Fraction(part.strip()) for part in text.split("+")) for text in cells]
        assert shown == [Fraction(calls.count(kind), 18) for kind in ("forward", "backward")]


def counted(function, kind, calls):
    """The function, which first notes its kind in the list of calls."""

    def call(*arguments, **options):
        calls.append(kind)
        return function(*arguments, **options)

    return call


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_with_a_tick_less_the_second_loss_sees_the_bottom_unit_without_the_update_by_the_first(depth):
    network, loss, n = chain(depth), sw.SoftmaxCrossEntropy(), 2 * depth - 2
    frames, targets = clip(2 * depth - 1 + n)
    first, second = depth - 1, depth - 1 + n  # the marked ticks
    ticks = run(sw.Delayed(copy.deepcopy(network), loss, sw.SGD(0.5), learn_every=n), frames, targets)

    def exact(network, tick):
        """The gradients of the loss of one tick, which depends on the depth frames up to this tick."""
        window = slice(tick - depth + 1, tick + 1)
        return sw.bptt(network, loss, frames[window], targets[window])

    updated = copy.deepcopy(network)
    for name, own in exact(network, first).gradients.items():
        sw.SGD(0.5).for_unit(name).update(updated.units[name].parameters, own, 0)
    mixed = copy.deepcopy(updated)
    mixed.load({"u0": network.units["u0"].parameters})
    seen, losses = ticks[second].loss, host([exact(mixed, second).loss, exact(updated, second).loss])
    assert seen == losses[0] != losses[1]
    for place, name in enumerate(network.units):
        pulled = ticks[second + depth - 1 - place].gradients[name]
        assert equal(pulled, exact(mixed, second).gradients[name]) == (name != "u0")
        assert not equal(pulled, exact(updated, second).gradients[name])
