"""Hand-written layers: the forward and the gradient maths of each, side by side."""

from sideways.layers.activation import LeakyReLU, ReLU, Sigmoid, Square, Tanh
from sideways.layers.base import Layer, Sequential
from sideways.layers.changes import Changes
from sideways.layers.conv import Conv2D
from sideways.layers.dense import Dense
from sideways.layers.dropout import Dropout
from sideways.layers.flatten import Flatten
from sideways.layers.gate import GatedChange
from sideways.layers.norm import BatchNorm
from sideways.layers.pool import AveragePool2D, GlobalAveragePool, MaxPool2D, Upsample2D
from sideways.layers.shortcut import Shortcut

__all__ = [
    "AveragePool2D",
    "BatchNorm",
    "Changes",
    "Conv2D",
    "Dense",
    "Dropout",
    "Flatten",
    "GatedChange",
    "GlobalAveragePool",
    "Layer",
    "LeakyReLU",
    "MaxPool2D",
    "ReLU",
    "Sequential",
    "Shortcut",
    "Sigmoid",
    "Square",
    "Tanh",
    "Upsample2D",
]
