"""How gradients are obtained: `Sideways`, `Delayed`, and the exact counterparts `Backprop` and `BPTT`."""

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
