"""A tick that is interrupted halfway, by Ctrl-C in a notebook or by an error, never goes on in silence."""

import copy
import sys

import numpy as np
import pytest
from graphs import copied, equal, run
from hypothesis import given, settings
from hypothesis import strategies as st

import sideways as sw
from sideways.rules.noisy import NoisyBackprop

RULES = {
    "sideways": sw.Sideways,
    "sideways, every 3": lambda *arguments: sw.Sideways(*arguments, update_every=3),
    "delayed": sw.Delayed,
    "delayed, every 5th loss": lambda *arguments: sw.Delayed(*arguments, learn_every=5),
    "backprop": sw.Backprop,
    "bptt": sw.BPTT,
    "noisy": NoisyBackprop,
}
T = 12  # ticks of a clip


def made(kind):
    """A rule with momentum on a skip graph of depth 3 with running statistics, and a clip for it."""
    units = [
        sw.Unit("a", [sw.Conv2D(1, 2, kernel=3), sw.BatchNorm(2), sw.ReLU()]),
        sw.Unit("b", [sw.Conv2D(2, 2, kernel=3), sw.Tanh()], ["a"]),
        sw.Unit("c", [sw.Flatten(), sw.Dense(64, 3)], ["b", "a"], merge="concat"),
    ]
    network = sw.Network(units, (4, 4, 1), seed=3, dtype="float64")
    random = np.random.default_rng(5)
    frames, targets = random.normal(size=(T, 2, 4, 4, 1)), random.integers(0, 3, (T, 2))
    return RULES[kind](network, sw.SoftmaxCrossEntropy(), sw.SGD(0.1, momentum=0.9)), frames, targets


class Interrupt:
    """While this context is open, raise KeyboardInterrupt at the n-th line of the library's rules that is run."""

    def __init__(self, n):
        self.n, self.lines = n, 0

    def line(self, frame, event, argument):
        if event == "line":
            self.lines += 1
            if self.lines == self.n:
                raise KeyboardInterrupt
        return self.line

    def call(self, frame, event, argument):
        name = frame.f_code.co_filename
        return self.line if "/sideways/" in name and "/tests/" not in name else None

    def __enter__(self):
        self.before = sys.gettrace()
        sys.settrace(self.call)
        return self

    def __exit__(self, *error):
        sys.settrace(self.before)


def interrupted(n, step, *arguments):
    """Take a step, interrupted at its n-th line. Returns whether it was interrupted, and the lines that it ran."""
    interrupt = Interrupt(n)
    try:
        with interrupt:
            step(*arguments)
    except KeyboardInterrupt:
        return True, interrupt.lines
    return False, interrupt.lines


def all_of(rule):
    """All that a rule has learnt."""
    memory = {name: optimizer.memory for name, optimizer in rule.optimizers.items()}
    return copied({"parameters": rule.network.parameters, "state": rule.network.state, "memory": memory})


@pytest.mark.parametrize("kind", RULES)
@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_after_an_interrupt_anywhere_in_a_tick_the_rule_goes_on_exactly_or_not_at_all(kind, data):
    rule, frames, targets = made(kind)
    whole = copy.deepcopy(rule)
    for frame, target in zip(frames, targets, strict=True):
        whole.tick(frame, target)
    moment = data.draw(st.integers(0, T - 1), label="tick")
    for frame, target in zip(frames[:moment], targets[:moment], strict=True):
        rule.tick(frame, target)
    _, lines = interrupted(0, copy.deepcopy(rule).tick, frames[moment], targets[moment])
    line = 1 + int(lines * data.draw(st.floats(0, 1, exclude_max=True), label="part of the tick's lines"))
    was_interrupted, _ = interrupted(line, rule.tick, frames[moment], targets[moment])
    assert was_interrupted or line > 0.9 * lines  # caches may save the last lines
    if not rule.is_whole:
        for step in (lambda: rule.tick(frames[moment], targets[moment]), rule.end_clip):
            with pytest.raises(sw.InputError, match=r"the tick after \d+ ticks was interrupted .* call reset\(\)"):
                step()
        return
    assert rule.ticks in (moment, moment + 1)
    for frame, target in zip(frames[rule.ticks :], targets[rule.ticks :], strict=True):
        rule.tick(frame, target)
    assert equal(all_of(rule), all_of(whole))


@pytest.mark.parametrize("kind", RULES)
@pytest.mark.parametrize("call", ["forward", "backward"])
def test_an_interrupt_inside_a_unit_is_noticed_and_reset_begins_a_clip_of_a_new_rule(kind, call, monkeypatch):
    rule, frames, targets = made(kind)
    for frame, target in zip(frames[:8], targets[:8], strict=True):
        rule.tick(frame, target)
    calls = []

    def interrupt(unit, *arguments, **options):
        calls.append(unit.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(unit, *arguments, **options)

    original = getattr(sw.Unit, call)
    monkeypatch.setattr(sw.Unit, call, interrupt)
    with pytest.raises(KeyboardInterrupt):
        rule.end_clip() if kind == "bptt" and call == "backward" else rule.tick(frames[8], targets[8])
    monkeypatch.undo()
    if kind not in ("backprop", "noisy"):  # their tick changes nothing before the gradients of all units are there
        with pytest.raises(sw.InputError, match=r"call reset\(\)"):
            rule.tick(frames[8], targets[8])
    rule.reset()
    rule.optimizers.clear()  # frozen from now on
    options = {"learn_every": rule.learn_every} if isinstance(rule, sw.Delayed) else {}
    fresh = type(rule)(copy.deepcopy(rule.network), rule.loss, **options)
    ticks, fresh_ticks = run(rule, frames, targets), run(fresh, frames, targets)
    assert ticks[-1].output is not None and (kind == "bptt" or any(tick.gradients for tick in ticks))
    for one, other in zip(ticks, fresh_ticks, strict=True):
        assert np.array_equal(one.output, other.output) and equal(one.gradients, other.gradients)


@pytest.mark.parametrize("kind", ["sideways, every 3", "bptt", "noisy"])
@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_after_an_interrupt_anywhere_in_the_end_of_a_clip_the_rule_goes_on_exactly_or_not_at_all(kind, data):
    rule, frames, targets = made(kind)
    for frame, target in zip(frames, targets, strict=True):
        rule.tick(frame, target)
    whole = copy.deepcopy(rule)
    whole.end_clip()
    _, lines = interrupted(0, copy.deepcopy(rule).end_clip)
    interrupted(1 + int(lines * data.draw(st.floats(0, 1, exclude_max=True), label="part of the lines")), rule.end_clip)
    try:
        rule.end_clip()
    except sw.InputError:
        return
    assert equal(all_of(rule), all_of(whole)) and rule.clock == 0


def test_an_error_inside_a_tick_is_an_interruption_too_and_a_refused_frame_is_none():
    rule, frames, targets = made("sideways")
    with pytest.raises(sw.InputError, match="not finite"):
        rule.tick(frames[0] * np.nan, targets[0])
    rule.tick(frames[0], targets[0])
    with pytest.raises(ZeroDivisionError):
        rule.tick(frames[1], targets[1], lambda: 1 // 0)
    with pytest.raises(sw.InputError, match=r"the tick after 1 ticks was interrupted"):
        rule.tick(frames[1], targets[1])


def test_after_an_interruption_reset_drops_the_sums_of_gradients():
    rule, frames, targets = made("sideways, every 3")
    for frame, target in zip(frames[:7], targets[:7], strict=True):
        rule.tick(frame, target)
    assert rule.counts == {"c": 2, "b": 1, "a": 0}  # a unit learns from tick 2, 3 or 4 on
    rule.reset()
    assert rule.counts == {"c": 2, "b": 1, "a": 0}  # a flush keeps them
    rule.tick(frames[0], targets[0])
    with pytest.raises(ZeroDivisionError):
        rule.tick(frames[1], targets[1], lambda: 1 // 0)
    rule.reset()
    assert rule.counts == {} and rule.sums == {}
