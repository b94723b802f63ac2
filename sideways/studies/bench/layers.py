"""`sideways bench layers`: the time of each layer of a model, and both algorithms for convolutions, with errors."""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Iterator
from typing import Any

import numpy
from threadpoolctl import threadpool_limits

from sideways.backend import Array, synchronise, to_device, to_host
from sideways.layers import Conv2D, Layer
from sideways.layers.conv import Im2col
from sideways.layers.winograd import Winograd
from sideways.models import build_model
from sideways.network import FRAME, Network
from sideways.studies.bench.output import print_table, write_json

HEAD = (
    "layer",
    "input",
    "algorithm",
    "forward ms",
    "backward ms",
    "PyTorch ms",
    "ratio",
    "error y",
    "error dx",
    "error dW",
)


def layers(model: str, size: int, batch: int, repeats: int, path: str | None) -> None:
    """Print the time of forward and backward of each layer, beside the time in PyTorch (channels last).

    `*` marks the algorithm that Conv2D takes. path: a JSON file for the results, or None.
    """
    network = build_model(model, (size, size, 3), 101)
    results = []
    with threadpool_limits(1, user_api="blas"):
        for layer, shape in _layers(network):
            host = numpy.random.default_rng(0).normal(size=(batch, *shape)).astype(numpy.float32)
            peer, x = _pytorch(layer, host, repeats), to_device(host)
            for name, algorithm in _algorithms(layer, x.shape):
                times = [_run(layer, algorithm, x, None)[:2] for _ in range(repeats + 1)][1:]
                forward, backward = (statistics.median(part) for part in zip(*times, strict=True))
                result: dict[str, Any] = {"layer": repr(layer), "input": x.shape, "algorithm": name, "pytorch": peer}
                result |= {"forward": forward, "backward": backward}
                results.append(result | (_errors(layer, algorithm, x) if algorithm else {}))
    print_table(HEAD, [_row(result) for result in results])
    print(
        f"\n{model}, float32, one thread, medians of {repeats}. ratio: forward and backward, over PyTorch's. errors:"
        "\nthe largest error, as a part of the root mean square of the float64 result. *: the algorithm that Conv2D"
        "\ntakes here."
    )
    write_json(path, results)


def _row(result: dict[str, Any]) -> tuple[str, ...]:
    seconds, peer = result["forward"] + result["backward"], result["pytorch"]
    return (
        *(result["layer"], "×".join(map(str, result["input"])), result["algorithm"]),
        *(f"{1e3 * result[part]:.2f}" for part in ("forward", "backward")),
        *((f"{1e3 * peer:.2f}", f"{seconds / peer:.2f}") if peer else ("", "")),
        *(f"{result[part]:.0e}" if part in result else "" for part in ("y", "dx", "dW")),
    )


def _layers(network: Network) -> Iterator[tuple[Layer, tuple[int, ...]]]:
    """Yield every layer of a network, with the shape of its input."""
    shapes = {FRAME: network.input_shape} | {name: unit.output_shape for name, unit in network.units.items()}
    for unit in network.units.values():
        for j, adapter in unit.adapters.items():
            yield from _of_chain(adapter.layers, shapes[j])
        yield from _of_chain(unit.body.layers, unit.merged_shape)


def _of_chain(chain: list[Layer], shape: tuple[int, ...]) -> Iterator[tuple[Layer, tuple[int, ...]]]:
    for layer in chain:
        yield layer, shape
        shape = layer.output_shape(shape)


def _algorithms(layer: Layer, shape: tuple[int, ...]) -> Iterator[tuple[str, Im2col | Winograd | None]]:
    """Yield the algorithms that can compute a layer, by name; `*` marks the one that Conv2D takes for this shape.

    A layer of another kind has one algorithm, without a name: None.
    """
    if not isinstance(layer, Conv2D):
        yield "", None
        return
    chosen = layer.algorithm(shape)
    for kind in (Im2col, Winograd):
        if isinstance(chosen, kind):
            yield f"{kind.__name__.lower()}*", chosen
        elif kind is Im2col or (layer.kernel == (3, 3) and layer.stride == (1, 1)):
            yield f"{kind.__name__.lower()} ", kind(layer.windows)


def _run(layer: Layer, algorithm: Im2col | Winograd | None, x: Array, dy: Array | None) -> Any:
    """Run a layer forward and backward: (seconds forward, seconds backward, y, dx, dW). dy: None to take y itself."""
    start = _now()
    if algorithm is None or not isinstance(layer, Conv2D):
        y, saved = layer.forward(x)
        middle = _now()
        dx, _ = layer.backward(y if dy is None else dy, saved)
        return middle - start, _now() - middle, y, dx, None
    weight, bias = layer.weight.astype(x.dtype, copy=False), layer.bias.astype(x.dtype, copy=False)
    y, scratch = algorithm.forward(x, weight, bias)
    middle = _now()
    dx, dw, _ = algorithm.backward(x, weight, y if dy is None else dy, scratch, layer.input_gradient)
    return middle - start, _now() - middle, y, dx, dw


def _now() -> float:
    """The time in seconds, once the device has computed all that is queued."""
    synchronise()
    return time.perf_counter()


def _errors(layer: Layer, algorithm: Im2col | Winograd, x: Array) -> dict[str, float]:
    """The largest errors in float32 of y, dx and dW, in units of the root mean square of the float64 result."""
    _, _, exact_y, *exact_rest = _run(layer, Im2col(algorithm.windows), x.astype(float), None)
    _, _, y, *rest = _run(layer, algorithm, x, exact_y.astype(numpy.float32))
    errors = {}
    for name, exact, result in zip(("y", "dx", "dW"), (exact_y, *exact_rest), (y, *rest), strict=True):
        if exact is not None:
            exact, result = to_host(exact), to_host(result)
            errors[name] = float(numpy.abs(result - exact).max() / numpy.sqrt((exact**2).mean()))
    return errors


def _pytorch(layer: Layer, x: numpy.ndarray, repeats: int) -> float | None:
    """The seconds of forward and backward in PyTorch, channels last; None if PyTorch does not compute here."""
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    from sideways.studies.bench.torch_network import device_beside, translated, wait_for

    if (device := device_beside()) is None:
        return None
    torch.set_num_threads(1)
    peer = translated(layer).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    image = torch.tensor(x, device=device)
    if x.ndim == 4:
        image = image.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    image.requires_grad_(getattr(layer, "input_gradient", True))
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        y = peer(image)
        wait_for(device)
        middle = time.perf_counter()
        dy = y.detach()
        resumed = time.perf_counter()
        y.backward(dy)
        wait_for(device)
        times.append(middle - start + time.perf_counter() - resumed)
        peer.zero_grad()
        image.grad = None
    return statistics.median(times[1:])
