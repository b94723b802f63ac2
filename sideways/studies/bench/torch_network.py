"""The library's networks as PyTorch modules, for benchmarks that compare with PyTorch if PyTorch is installed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn

from sideways import layers as own
from sideways.backend import on_device, tf32
from sideways.layers import Layer
from sideways.network import FRAME, Network, Unit
from sideways.optimizers import SGD


def device_beside() -> torch.device | None:
    """PyTorch's device where the library computes, with its precision; None if PyTorch does not see it."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32()
    if not on_device():
        return torch.device("cpu")
    return torch.device("cuda") if torch.cuda.is_available() else None


def wait_for(device: torch.device) -> None:
    """Wait until PyTorch has computed all that is queued on a device."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def torch_steps(network: Network, batch: int, sgd: SGD, compiled: bool) -> dict[str, Callable[[], None]]:
    """Functions that run one step of backpropagation and SGD in PyTorch, by name: one for each layout in memory.

    The steps compute where the library computes; none are returned if PyTorch does not see that device. PyTorch's
    number of threads is left as it is. sgd: the optimizer, without clipping and weight decay. compiled: also return
    steps of networks that `torch.compile` compiles when they first run.
    """
    device = device_beside()
    if device is None:
        return {}
    height, width, channels = network.input_shape
    steps: dict[str, Callable[[], None]] = {}
    for layout, memory_format in (("first", torch.contiguous_format), ("last", torch.channels_last)):
        frame = torch.randn(batch, channels, height, width, device=device).contiguous(memory_format=memory_format)
        for words in ("", ", compiled") if compiled else ("",):
            module = Graph(network).to(device, memory_format=memory_format)  # type: ignore[call-overload]
            optimizer = torch.optim.SGD(module.parameters(), sgd.learning_rate, sgd.momentum, fused=True)
            run = torch.compile(module, dynamic=False) if words else module
            steps[f"PyTorch, channels {layout}{words}"] = partial(_step, run, frame, optimizer)
    return steps


def _step(run: Callable[[torch.Tensor], torch.Tensor], frame: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
    """Take one step of backpropagation, as a loop of training in PyTorch does."""
    output = run(frame)
    nn.functional.cross_entropy(output, torch.arange(len(output), device=output.device) % 10).backward()
    optimizer.step()
    optimizer.zero_grad()
    wait_for(output.device)


class Graph(nn.Module):
    """A network whose edges take no time: PyTorch's backpropagation goes through all units in one step."""

    def __init__(self, network: Network):
        super().__init__()
        self.graph = [(name, unit.inputs, unit.merge) for name, unit in network.units.items()]
        self.bodies = nn.ModuleDict({f"of {name}": translated(unit.body) for name, unit in network.units.items()})
        self.adapters = nn.ModuleDict(
            {f"{j}>{name}": translated(layer) for name, u in network.units.items() for j, layer in u.adapters.items()}
        )

    def forward(self, frame: torch.Tensor) -> torch.Tensor:
        activations = {FRAME: frame}
        for name, inputs, merge in self.graph:
            parts = []
            for j in inputs:
                adapter = f"{j}>{name}"
                parts.append(self.adapters[adapter](activations[j]) if adapter in self.adapters else activations[j])
            x = torch.cat(parts, 1) if merge == "concat" and len(parts) > 1 else sum(parts[1:], parts[0])
            activations[name] = self.bodies[f"of {name}"](x)
        return activations[name]


class Stage(nn.Module):
    """Units of a chain as PyTorch's own modules, channels last in memory; messages are plain contiguous tensors."""

    def __init__(self, units: Sequence[Unit]):
        super().__init__()
        layers = [translated(layer) for unit in units for layer in unit.body.layers]
        self.layers = nn.Sequential(*layers).to(memory_format=torch.channels_last)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.requires_grad:
            x.register_hook(torch.Tensor.contiguous)  # The gradient message is made contiguous too.
        if x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        return self.layers(x).contiguous()


class Around(nn.Module):
    """A `Shortcut`: layers with a path around them."""

    def __init__(self, layers: nn.Module, projection: nn.Module):
        super().__init__()
        self.layers, self.projection = layers, projection

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x) + self.projection(x)


class Squared(nn.Module):
    """The square of each number."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.square(x)


def _convolution(layer: own.Conv2D) -> nn.Module:
    padding: str | int = layer.windows.padding if layer.windows.padding == "same" else 0
    if padding == "same" and layer.stride != (1, 1):
        sys.exit(f"the comparison with PyTorch does not know {layer!r} with a stride and padding='same'")
    return nn.Conv2d(layer.inputs, layer.outputs, layer.kernel, layer.stride, padding)


def _pool(kind: Callable[..., nn.Module], layer: own.MaxPool2D | own.AveragePool2D) -> nn.Module:
    if layer.windows.padding == "same":
        sys.exit(f"the comparison with PyTorch does not know {layer!r} with padding='same'")
    return kind(layer.windows.kernel, layer.windows.stride)


def _norm(layer: own.BatchNorm) -> nn.Module:
    norm = nn.BatchNorm2d(layer.channels, layer.epsilon, layer.momentum)
    norm._check_input_dim = lambda x: None  # type: ignore[method-assign]  # vectors too
    return norm


MODULES: dict[type[Layer], Callable[..., nn.Module]] = {
    own.Conv2D: _convolution,
    own.Dense: lambda layer: nn.Linear(layer.inputs, layer.outputs),
    own.BatchNorm: _norm,
    own.MaxPool2D: partial(_pool, nn.MaxPool2d),
    own.AveragePool2D: partial(_pool, nn.AvgPool2d),
    own.GlobalAveragePool: lambda layer: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    own.Upsample2D: lambda layer: nn.Upsample(scale_factor=tuple(map(float, layer.size))),
    own.Flatten: lambda layer: nn.Flatten(),
    own.Dropout: lambda layer: nn.Dropout(layer.rate),
    own.ReLU: lambda layer: nn.ReLU(),
    own.LeakyReLU: lambda layer: nn.LeakyReLU(layer.slope),
    own.Tanh: lambda layer: nn.Tanh(),
    own.Sigmoid: lambda layer: nn.Sigmoid(),
    own.Square: lambda layer: Squared(),
    own.Shortcut: lambda layer: Around(_chain(layer.layers), _chain(layer.projection.layers)),
    own.Sequential: lambda layer: _chain(layer.layers),
}


def translated(layer: Layer) -> nn.Module:
    """PyTorch's module for a layer; exits with a message for a layer that this function does not know."""
    if type(layer) not in MODULES:
        sys.exit(f"the comparison with PyTorch does not know {layer!r}: choose a plain model, such as vgg8")
    return MODULES[type(layer)](layer)


def _chain(layers: Sequence[Layer]) -> nn.Module:
    return nn.Sequential(*map(translated, layers))
