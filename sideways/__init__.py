"""Sideways, Skip-Sideways and Delayed: training a deep network on video without ever stopping for a backward pass."""

from sideways import interruption as _interruption  # noqa: F401

# isort: split
try:
    import numpy as _numpy  # noqa: F401
except Exception:
    # Python runs this file before any command. If NumPy is broken, `sideways doctor` must still be able to say so.
    from sideways import doctor as _doctor

    _doctor.run_if_asked_for()
    raise

from sideways.backend import backend_name, synchronise, to_device, to_host, use_backend
from sideways.errors import InputError
from sideways.layers import *  # noqa: F403
from sideways.layers import __all__ as _layers
from sideways.layers.check import LayerReport, check_layer
from sideways.learning_rates import Constant, Cosine, Step, WarmUp
from sideways.losses import LogMeanSquaredError, Loss, MeanSquaredError, SoftmaxCrossEntropy
from sideways.network import Network, Unit
from sideways.optimizers import SGD, Adam, Optimizer, RMSProp
from sideways.rules import *  # noqa: F403
from sideways.rules import __all__ as _rules

__version__ = "0.2.0"

__all__ = [
    *_layers,
    *_rules,
    "SGD",
    "Adam",
    "Constant",
    "Cosine",
    "InputError",
    "LayerReport",
    "LogMeanSquaredError",
    "Loss",
    "MeanSquaredError",
    "Network",
    "Optimizer",
    "RMSProp",
    "SoftmaxCrossEntropy",
    "Step",
    "Unit",
    "WarmUp",
    "backend_name",
    "check_layer",
    "synchronise",
    "to_device",
    "to_host",
    "use_backend",
]
