"""Networks: units, the directed acyclic graph that they form, and its static schedule."""

from sideways.network.network import Network
from sideways.network.unit import FRAME, Unit

__all__ = ["FRAME", "Network", "Unit"]
