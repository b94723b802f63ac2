"""`sideways bench memory`: the memory that training on a clip of T frames needs, with each rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy

from sideways.losses import SoftmaxCrossEntropy
from sideways.models import build_model
from sideways.network import Network
from sideways.rules import BPTT, Backprop, Sideways
from sideways.studies.bench.output import print_table, write_json
from sideways.tables import aligned
from sideways.training.memory import of_clip, table

RULES = ("Sideways", "backprop", "bptt")  # in the order of the table
HEAD = ("rule", "T", "saved MB", "messages MB", "scratch MB", "peak MB", "bptt / this")
CLASSES = 101


def memory(model: str, size: int, batch: int, lengths: Sequence[int], path: str | None) -> None:
    """Measure peaks beyond the parameters, the frames and all that stays between clips; updates at a clip's end."""
    network = build_model(model, (size, size, 3), CLASSES)
    results = measured(network, batch, lengths)
    exact = {result["T"]: result["peak"] for result in results if result["rule"] == "bptt"}
    rows = [
        (
            *(result["rule"], str(result["T"])),
            *(f"{result[part] / 1e6:.1f}" for part in ("saved", "messages", "scratch", "peak")),
            f"{exact[result['T']] / result['peak']:.1f}",
        )
        for result in sorted(results, key=lambda result: (RULES.index(result["rule"]), result["T"]))
    ]
    print_table(HEAD, rows)
    print(f"\nEach unit's turn, in MB:\n\n{aligned(('unit', 'saved', 'scratch', 'messages'), table(network, batch))}")
    print(
        f"\n{model}, batches of {batch} frames of {size}×{size}, float32. peak: measured (tracemalloc), beyond the"
        "\nparameters and the frames, which bptt stores as well; saved and messages: counted; scratch: the rest."
    )
    write_json(path, results)


def measured(network: Network, batch: int, lengths: Sequence[int]) -> list[dict[str, Any]]:
    """Measure each rule on each length: a dictionary with the rule, T, and the bytes that `of_clip` counts."""
    loss = SoftmaxCrossEntropy()
    results: list[dict[str, Any]] = []
    for length in lengths:
        frame = numpy.random.default_rng(0).normal(size=(batch, *network.input_shape)).astype(numpy.float32)
        labels = numpy.arange(batch) % 10
        rules = (
            Sideways(network, loss, update_every="clip", boundary="stream"),
            Backprop(network, loss, update_every="clip"),
            BPTT(network, loss),
        )
        for name, rule in zip(RULES, rules, strict=True):
            results.append({"rule": name, "T": length, **of_clip(rule, [frame] * length, [labels] * length)})
    return results
