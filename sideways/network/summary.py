"""The table that `print(network.summary())` shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sideways.network.marks import Marks
from sideways.network.unit import Unit
from sideways.tables import aligned

HEAD = ("unit", "inputs", "output", "parameters", "mult-adds", "forward", "backward", "out of step", "kept")


def summary(
    units: Mapping[str, Unit],
    first_forward: Mapping[str, int],
    first_backward: Mapping[str, int],
    path_lengths: Mapping[str, Sequence[int]],
) -> str:
    """Return a row for each unit, a line for the whole network, and a legend."""
    latency = max(first_forward.values())
    seldom = 2 * latency + 1  # the fewest ticks between two marked losses whose gradients never meet
    every_loss, few_losses = (Marks(path_lengths, latency, learn_every) for learn_every in (1, seldom))
    parameters = {name: sum(array.size for array in unit.parameters.values()) for name, unit in units.items()}
    rows = []
    for name, unit in units.items():
        shortest, longest = 2 * path_lengths[name][0], 2 * path_lengths[name][-1]
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
                f"{every_loss.most_kept(name)} or {few_losses.most_kept(name)}" if longest else "0",
            )
        )
    work = sum(unit.multiply_adds for unit in units.values())
    return "\n".join(
        [
            aligned(HEAD, rows, right=False),
            f"{len(units)} units, depth {latency + 1}, latency {latency} ticks; {sum(parameters.values()):,} "
            f"parameters, {work:,} multiply-adds per frame",
            "forward, backward: the first tick of each; out of step: frames; + adds, ‖ concatenates channels",
            f"kept: the inputs that Delayed keeps of the unit, with learn_every=1 or learn_every={seldom}",
        ]
    )
