"""The table that `print(network.summary())` shows."""

from __future__ import annotations

from collections.abc import Mapping

from sideways.network.unit import Unit
from sideways.tables import aligned

HEAD = ("unit", "inputs", "output", "parameters", "mult-adds", "forward", "backward", "out of step")


def summary(
    units: Mapping[str, Unit],
    first_forward: Mapping[str, int],
    first_backward: Mapping[str, int],
    to_top: Mapping[str, tuple[int, int]],
) -> str:
    """Return a row for each unit, a line for the whole network, and a legend."""
    parameters = {name: sum(array.size for array in unit.parameters.values()) for name, unit in units.items()}
    rows = []
    for name, unit in units.items():
        shortest, longest = (2 * ticks for ticks in to_top[name])
        rows.append(
            (
                name,
                f" {'+' if unit.merge == 'add' else '‖'} ".join(unit.inputs),
                "×".join(map(str, unit.output_shape)),
                f"{parameters[name]:,}",
                f"{unit.multiply_adds:,}",
                f"tick {first_forward[name]}",
                f"tick {first_backward[name]}",
                f"{shortest}" if shortest == longest else f"{shortest} … {longest}",
            )
        )
    latency = max(first_forward.values())
    work = sum(unit.multiply_adds for unit in units.values())
    return "\n".join(
        [
            aligned(HEAD, rows, right=False),
            f"{len(units)} units, depth {latency + 1}, latency {latency} ticks; {sum(parameters.values()):,} "
            f"parameters, {work:,} multiply-adds per frame",
            "forward, backward: the first tick of each; out of step: frames; + adds, ‖ concatenates channels",
        ]
    )
