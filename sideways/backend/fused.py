"""Fused computations: what NumPy computes in several steps, a GPU computes at once, by a kernel.

Layers, losses and optimizers define such a computation in NumPy's steps, in a function of their own, and name the
kernel that takes its place on the device (`kernels.py` has all kernels):

    @fused(kernels.relu_gradient)
    def relu_gradient(dy, y):
        return multiply(dy, greater(y, 0))

A GPU needs this because each operation must be launched, however little it computes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy

from sideways.backend.arrays import device_library
from sideways.errors import InputError

P = ParamSpec("P")
R = TypeVar("R")
LIMIT = 1 << 31  # elements of an output: kernels count them in 32 bits, in which a GPU divides faster than in 64


def fused(kernel: Callable[P, R]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a computation in NumPy's steps with the kernel that takes its place for device arrays.

    The first argument is an array, and decides. `__wrapped__` of the result is the computation in steps.
    """

    def decorate(steps: Callable[P, R]) -> Callable[P, R]:
        @wraps(steps)
        def compute(*arguments: P.args, **options: P.kwargs) -> R:
            chosen = steps if isinstance(arguments[0], numpy.ndarray) else kernel
            return chosen(*arguments, **options)

        return compute

    return decorate


KERNELS: list[Kernel] = []  # all of them


class Kernel:
    """An elementwise kernel, compiled when it first runs.

    inputs, outputs: the declarations of its arguments, as for `cupy.ElementwiseKernel`. Outputs are written in place.
    """

    def __init__(self, name: str, inputs: str, outputs: str, code: str):
        self.name, self.inputs, self.outputs, self.code = name, inputs, outputs, code
        self._compiled: Callable[..., Any] | None = None
        KERNELS.append(self)

    def __call__(self, *arguments: Any) -> Any:
        """Run the kernel: the inputs, then the outputs. Returns the last output."""
        *_, out = arguments
        if out.size >= LIMIT:
            raise InputError(f"{self.name}: an array of {out.size} elements; use a smaller batch on a GPU")
        if self._compiled is None:
            make = device_library().ElementwiseKernel
            self._compiled = make(self.inputs, self.outputs, self.code, f"sideways_{self.name}")
        self._compiled(*arguments)
        return out
