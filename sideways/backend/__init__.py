"""Everything that differs between NumPy and CuPy: arrays, memory, copies, random numbers. No other folder knows CuPy.

Layers, losses, rules and optimizers import from here. They take the library from the arrays that they are given
(`namespace(x)`), so that networks on the host and on the device can live side by side.
"""

from sideways.backend.arrays import (
    BACKENDS,
    Array,
    Shape,
    backend_name,
    buffer,
    column_sums,
    compute_stream,
    contiguous,
    copied,
    cuda,
    default_backend,
    empty,
    finite,
    fresh,
    gpu,
    is_on_device,
    namespace,
    on_device,
    pinned,
    synchronise,
    to_device,
    to_host,
    use_backend,
    use_device,
    windows,
    zeros,
)
from sideways.backend.pool import memory_pool
from sideways.backend.random import generator, stable_hash, uniform

__all__ = [
    "BACKENDS",
    "Array",
    "Shape",
    "backend_name",
    "buffer",
    "column_sums",
    "compute_stream",
    "contiguous",
    "copied",
    "cuda",
    "default_backend",
    "empty",
    "finite",
    "fresh",
    "generator",
    "gpu",
    "is_on_device",
    "memory_pool",
    "namespace",
    "on_device",
    "pinned",
    "stable_hash",
    "synchronise",
    "to_device",
    "to_host",
    "uniform",
    "use_backend",
    "use_device",
    "windows",
    "zeros",
]
