"""The library's networks as PyTorch modules, for benchmarks that compare with PyTorch if PyTorch is installed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import torch
from torch import nn

from sideways.backend import on_device, tf32
from sideways.layers import Conv2D, Dense, Flatten, GlobalAveragePool, Layer, MaxPool2D, ReLU
from sideways.network import Network, Unit


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


def chain(network: Network) -> nn.Module:
    """A chain of units as one module."""
    return nn.Sequential(*(translated(layer) for unit in network.units.values() for layer in unit.body.layers))


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


def translated(layer: Layer) -> nn.Module:
    """PyTorch's module for a layer; exits with a message for a layer that this function does not know."""
    if isinstance(layer, Conv2D):
        return nn.Conv2d(layer.inputs, layer.outputs, layer.kernel, padding="same")
    if isinstance(layer, Dense):
        return nn.Linear(layer.inputs, layer.outputs)
    if isinstance(layer, MaxPool2D):
        return nn.MaxPool2d(layer.windows.kernel, layer.windows.stride)
    if isinstance(layer, GlobalAveragePool):
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    known: dict[type[Layer], Callable[[], nn.Module]] = {ReLU: nn.ReLU, Flatten: nn.Flatten}
    if type(layer) not in known:
        sys.exit(f"the comparison with PyTorch does not know {layer!r}: choose a plain model, such as vgg8")
    return known[type(layer)]()
