"""Learning rules: `Sideways`; `Delayed`, which does not wait either and is exact for older frames; and the exact
counterparts that wait, `Backprop` and `BPTT`.

To understand the tick, read these five files in this order, about 350 lines together:

    sideways/layers/dense.py        a layer is two functions, forward and backward
    sideways/network/unit.py        a unit is a few layers that act as one
    sideways/network/schedule.py    when each unit runs first
    sideways/rules/mailbox.py       a message sent in one tick is read in the next
    sideways/rules/sideways.py      the tick

Then read `delayed.py`, and `backprop.py` and `bptt.py`, which compute the exact gradients.
"""

from sideways.rules.backprop import Backprop, Gradients, backprop
from sideways.rules.bptt import BPTT, bptt
from sideways.rules.delayed import Delayed
from sideways.rules.mailbox import Mailbox
from sideways.rules.rule import Evaluation, Rule, Tick
from sideways.rules.sideways import Sideways
from sideways.rules.trace import Trace

__all__ = [
    "BPTT",
    "Backprop",
    "Delayed",
    "Evaluation",
    "Gradients",
    "Mailbox",
    "Rule",
    "Sideways",
    "Tick",
    "Trace",
    "backprop",
    "bptt",
]
