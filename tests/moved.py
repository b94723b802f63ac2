"""Layers and losses called with host arrays, whatever the backend: arrays move to the device and the results back."""

import numpy as np

import sideways as sw


def host(tree):
    """Copy nested dictionaries, tuples and lists of arrays to the host. None stays None."""
    if isinstance(tree, dict):
        return {key: host(value) for key, value in tree.items()}
    if isinstance(tree, tuple | list):
        return type(tree)(host(value) for value in tree)
    return None if tree is None else sw.to_host(tree)


def forward(layer, x, train=True):
    """The forward pass of a layer: (y on the host, saved)."""
    y, saved = layer.forward(sw.to_device(x), train)
    return host(y), saved


def backward(layer, dy, saved):
    """The backward pass of a layer: (dx, gradients) on the host."""
    return host(layer.backward(sw.to_device(dy), saved))


def loss_and_gradient(loss, output, target):
    """The value of a loss and its gradient, on the host."""
    return host(loss(sw.to_device(output), sw.to_device(target)))


def ready(layer, dtype="float64", seed=0):
    """Draw the parameters of a layer, and return the layer."""
    layer.initialise(np.random.default_rng(seed), dtype)
    return layer
