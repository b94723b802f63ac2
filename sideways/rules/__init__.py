"""Learning rules. Two never wait:

    Sideways     the least memory, and an update at every tick, from pseudo-gradients
    Delayed      exact gradients of older frames, for memory and a second forward pass; with the loss of one tick in
                 2D-1 only, gradient descent on the exact gradient, with little memory and the cheapest ticks

Two wait, and are the exact counterparts: `BPTT` for whole clips, and `Backprop` for single frames.

To understand the tick, read these five files in this order, about 350 lines together:

    sideways/layers/dense.py        a layer is two functions, forward and backward
    sideways/network/unit.py        a unit is a few layers that act as one
    sideways/network/schedule.py    when each unit runs first
    sideways/rules/mailbox.py       a message sent in one tick is read in the next
    sideways/rules/sideways.py      the tick

Then read `sideways/network/marks.py` and `delayed.py`, which is the same tick with inputs that are kept, and
`backprop.py` and `bptt.py`, which compute the exact gradients.
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
