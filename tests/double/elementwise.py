"""The double's `cupy.ElementwiseKernel`: the kernel's own code, compiled by this machine's C++ compiler."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import math
import os
import re
import subprocess
import tempfile
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy

from double.arrays import Scalar, ndarray
from double.clock import Hazard, clock
from double.signatures import check, real

C_TYPES = {
    "float32": "float", "float64": "double", "int32": "int", "int64": "long long", "uint64": "unsigned long long",
    "bool": "bool",
}  # fmt: skip
HEAD = '#include <cmath>\n#include <cstddef>\n#include <algorithm>\nusing namespace std;\nextern "C" void kernel'
# A GPU may round a product and a sum at once; without that a kernel has the bits of NumPy's steps.
FLAGS = ["-x", "c++", "-std=c++17", "-O2", "-ffp-contract=off", "-shared", "-fPIC"]


class Parameter(NamedTuple):
    """An argument of a kernel. raw: an array indexed by the kernel itself."""

    dtype: str
    name: str
    raw: bool


def parsed(declarations: str) -> list[Parameter]:
    """The parameters in declarations such as `raw T x, int32 H`."""
    found = [re.fullmatch(r"(raw )?(\w+) (\w+)", text.strip()) for text in declarations.split(",")]
    return [Parameter(match[2], match[3], bool(match[1])) for match in found]


def source(inputs: list[Parameter], outputs: list[Parameter], code: str, dtype: str, scalars: set[Parameter]) -> str:
    """The C++ code of a kernel: a loop over the elements."""
    declared, bound = ["ptrdiff_t n"], []
    for parameter in (*inputs, *outputs):
        c_type = C_TYPES[dtype if parameter.dtype == "T" else parameter.dtype]
        if parameter.raw:
            declared.append(f"const {c_type} *{parameter.name}")
        else:
            constant = "const " if parameter in inputs else ""
            index = "0" if parameter in scalars else "i"
            declared.append(f"{constant}{c_type} *{parameter.name}_all")
            bound.append(f"{constant}{c_type} &{parameter.name} = {parameter.name}_all[{index}];")
    loop = f"for (ptrdiff_t i = 0; i < n; i++) {{ {' '.join(bound)}\n{code}\n}}"
    return f"typedef {C_TYPES[dtype]} T;\n{HEAD}({', '.join(declared)}) {{ {loop} }}\n"


@functools.cache
def compiled(text: str) -> Any:
    """The function of this C++ code, from a library that other processes use too."""
    folder = Path(tempfile.gettempdir()) / f"sideways-double-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    library = folder / f"{hashlib.sha256(text.encode()).hexdigest()}.so"
    if not library.exists():
        own = library.with_suffix(f".{os.getpid()}")
        command = [os.environ.get("CXX", "c++"), *FLAGS, "-o", str(own), "-"]
        try:
            subprocess.run(command, input=text, check=True, text=True, capture_output=True)
        except FileNotFoundError:
            raise RuntimeError("the device double compiles kernels: it needs a C++ compiler, such as g++") from None
        except subprocess.CalledProcessError as error:
            raise RuntimeError(f"{error.stderr}\n{text}") from None
        own.replace(library)
    return ctypes.CDLL(str(library)).kernel


class ElementwiseKernel:
    """`cupy.ElementwiseKernel`, for kernels whose outputs are given."""

    def __init__(self, in_params: str, out_params: str, operation: str, name: str = "kernel", **options: Any):
        check(real, "ElementwiseKernel", (in_params, out_params, operation, name), options)
        self.inputs, self.outputs = parsed(in_params), parsed(out_params)
        self.code, self.name = operation, name

    def __call__(self, *arguments: Any) -> None:
        parameters = [*self.inputs, *self.outputs]
        if len(arguments) != len(parameters):
            raise TypeError(f"{self.name} takes {len(parameters)} arguments, not {len(arguments)}")
        given = dict(zip(parameters, arguments, strict=True))
        dtype = self._dtype(given)
        shape = numpy.broadcast_shapes(*[a.shape for p, a in given.items() if not p.raw and isinstance(a, ndarray)])
        read = {p: given[p] for p in self.inputs if isinstance(given[p], ndarray)}
        written = [given[p] for p in self.outputs]
        if any(_crosses(array, p.raw, other) for p, array in read.items() for other in written):
            raise Hazard(f"{self.name} writes into an array that its other threads read")
        clock.work(self.name, [array._memory for array in read.values()], [array._memory for array in written])
        clock.do(partial(self._run, given, dtype, shape))

    def _run(self, given: dict[Parameter, Any], dtype: str, shape: tuple[int, ...]) -> None:
        values = [self._values(p, a, dtype, shape) for p, a in given.items()]
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in values]
        scalars = {p for p, a in given.items() if not isinstance(a, ndarray)}
        kernel = compiled(source(self.inputs, self.outputs, self.code, dtype, scalars))
        kernel(ctypes.c_ssize_t(math.prod(shape)), *pointers)

    def _dtype(self, given: dict[Parameter, Any]) -> str:
        found = {a.dtype.name for p, a in given.items() if p.dtype == "T" and isinstance(a, ndarray)}
        if len(found) != 1:
            raise TypeError(f"{self.name}: Type is mismatched: T is {found}")
        return found.pop()

    def _values(self, parameter: Parameter, argument: Any, dtype: str, shape: tuple[int, ...]) -> numpy.ndarray:
        """The memory that the kernel reads or writes: a scalar's, or an array's, repeated along missing axes."""
        expected = dtype if parameter.dtype == "T" else parameter.dtype
        if not isinstance(argument, ndarray):
            if parameter.raw or not isinstance(argument, Scalar):
                raise TypeError(f"{self.name}: Unsupported type {type(argument)} for {parameter.name}")
            return numpy.array(argument, expected)
        if argument.dtype.name != expected:
            raise TypeError(f"{self.name}: Type is mismatched: {parameter.name} is {argument.dtype}, not {expected}")
        values = argument._values
        if parameter in self.outputs:
            if values.shape != shape or not values.flags.c_contiguous:
                raise ValueError(f"{self.name}: the output {parameter.name} has shape {values.shape}, not {shape}")
            return values
        return numpy.ascontiguousarray(values if parameter.raw else numpy.broadcast_to(values, shape))


def _crosses(read: ndarray, raw: bool, written: ndarray) -> bool:
    """Whether a thread may read what another writes: all but an array that is read and written element by element."""
    if read._memory is not written._memory:
        return False
    a, b = read._values, written._values
    return raw or (a.__array_interface__ != b.__array_interface__ and numpy.shares_memory(a, b))
