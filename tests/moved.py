"""Layers and losses on host arrays, wherever they compute: there and back. The tests' own arithmetic is NumPy's."""

import numpy as np

import sideways as sw


def host(held):
    """Arrays in nested dictionaries, tuples and lists, as host arrays."""
    if isinstance(held, dict):
        return {key: host(value) for key, value in held.items()}
    if isinstance(held, tuple | list):
        return type(held)(host(value) for value in held)
    return None if held is None else sw.to_host(held)


def forward(layer, x, train=True):
    """(y, saved)"""
    y, saved = layer.forward(sw.to_device(x), train)
    return host(y), saved


def backward(layer, dy, saved):
    """(dx, gradients)"""
    return host(layer.backward(sw.to_device(dy), saved))


def of_loss(loss, output, target):
    """(value, gradient)"""
    return host(loss(sw.to_device(output), sw.to_device(target)))


def ready(layer, dtype="float64", seed=0):
    """The layer with parameters drawn."""
    layer.initialise(np.random.default_rng(seed), dtype)
    return layer
