"""How gradients are obtained: `Sideways`, and its exact counterparts `Backprop` and `BPTT`."""

from sideways.rules.backprop import Backprop, Gradients, backprop
from sideways.rules.bptt import BPTT, bptt
from sideways.rules.mailbox import Mailbox
from sideways.rules.rule import Evaluation, Rule, Tick
from sideways.rules.sideways import Sideways
from sideways.rules.trace import Trace

__all__ = [
    "BPTT",
    "Backprop",
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
