"""The table above the tick in `sideways/rules/sideways.py` says what `rule.trace()` says."""

import inspect
import re

import numpy as np
from graphs import chain

import sideways as sw
from sideways.rules import sideways as module


def table():
    """The cells of the table: (unit, tick) → (frames in the activation, frames in the pseudo-gradient), as text."""
    lines = re.findall(r"^ +#  (?:tick|unit) .+$", inspect.getsource(module), re.MULTILINE)
    head, *rows = (line[: lines[0].index("A chain")] for line in lines)
    starts = [match.start() for match in re.finditer(r"\d", head)]
    cells = {}
    for row in rows:
        unit = int(re.search(r"unit (\d)", row)[1])
        for tick, (start, end) in enumerate(zip(starts, [*starts[1:], len(row)], strict=True)):
            activation, _, gradient = row[start:end].partition("|")
            cells[unit, tick] = (frames(activation), frames(gradient))
    return cells


def frames(text):
    return {int(number) for number in re.findall(r"\d", text)}


def test_the_table_above_the_tick_is_the_trace_of_a_chain_of_three_units():
    cells = table()
    assert len(cells) == 15
    rule = sw.Sideways(chain(3), sw.SoftmaxCrossEntropy())
    for tick in range(5):
        rule.tick(np.zeros((1, 2, 2, 1)), [0])
        for number, met in enumerate(rule.trace().values(), 1):
            activation = {frame for frame, _ in met.activation}
            gradient = {frame for frame, _ in met.gradient}
            assert cells[number, tick] == (activation, gradient)
