"""The double's module `cupy`: every function that CuPy and NumPy both have, with CuPy's signature."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import types
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy

from double.arrays import Scalar, call, ndarray, new, uninitialised, unwrapped
from double.clock import Event, Hazard, MemoryPool, Pinned, Stream, clock, using_allocator
from double.elementwise import ElementwiseKernel
from double.signatures import check, real

VISIBLE = [int(number) for number in os.environ.get("CUDA_VISIBLE_DEVICES", "0,1").split(",")]  # GPUs of the double
MEMORY = 1 << 36  # bytes of each GPU, all of them free
# The host waits to know the size of their results.
SYNCHRONISING = (
    "nonzero",
    "flatnonzero",
    "argwhere",
    "unique",
    "extract",
    "compress",
)


def _created(name: str) -> Callable[..., ndarray]:
    """A function that creates an array from scalars: zeros, ones, arange, …"""
    function = getattr(numpy, name)

    def create(*arguments: Any, **options: Any) -> ndarray:
        check(real, name, arguments, options)
        unwrapped([*arguments, *options.values()])
        return new(function(*arguments, **options))

    return create


def _transfer(name: str) -> Callable[..., ndarray]:
    """A function that uploads explicitly, through CuPy's own pinned memory: asarray, array, ascontiguousarray."""
    function = getattr(numpy, name)

    def transfer(*arguments: Any, **options: Any) -> ndarray:
        check(real, name, arguments, options)
        source, *others = arguments
        options.pop("blocking", None)
        if isinstance(source, ndarray):
            return call(name, function, arguments, options)
        made = numpy.array(function(source, *others, **options))
        if made.dtype.kind not in "biufc":
            raise ValueError(f"Unsupported dtype {made.dtype}")
        if clock.graph is not None:
            raise Hazard("an upload while a graph is captured would keep the values of now")
        clock.counts.update(upload=1, upload_bytes=made.nbytes)
        return new(made)

    return transfer


def _empty(*arguments: Any, **options: Any) -> ndarray:
    check(real, "empty", arguments, options)
    return uninitialised(*arguments, **({"dtype": float} | options if len(arguments) == 1 else options))


def _copyto(*arguments: Any, **options: Any) -> None:
    check(real, "copyto", arguments, options)
    values, (into, *arrays) = unwrapped(arguments)
    option_values, of_options = unwrapped(list(options.values()))
    clock.work("copyto", [array._memory for array in (*arrays, *of_options)], [into._memory])
    clock.do(partial(numpy.copyto, *values, **dict(zip(options, option_values, strict=True))))


def _asnumpy(*arguments: Any, **options: Any) -> numpy.ndarray:
    check(real, "asnumpy", arguments, options)
    return arguments[0].get() if isinstance(arguments[0], ndarray) else numpy.asarray(arguments[0])


def _may_share_memory(*arguments: Any, **options: Any) -> bool:
    """Compare addresses, which the host knows without reading (`cupy._core._memory_range.may_share_bounds`)."""
    check(real, "may_share_memory", arguments, options)
    values, _ = unwrapped(arguments)
    return bool(numpy.may_share_memory(*values))


class Namespace(types.ModuleType):
    """`cupy`, or one of its submodules."""

    def __init__(self, name: str, real: Any, host: Any, own: dict[str, Any]):
        super().__init__(name)
        self.__dict__.update(own, _real=real, _host=host)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or not hasattr(self._real, name):
            raise AttributeError(f"module {self._real.__name__!r} has no attribute {name!r}")
        of_cupy = getattr(self._real, name)
        if isinstance(of_cupy, types.ModuleType) and self._host is not None:
            value: Any = Namespace(of_cupy.__name__, of_cupy, getattr(self._host, name), {})
        elif isinstance(of_cupy, (type, *Scalar)) or of_cupy is None:
            value = of_cupy  # cupy.float32 is numpy.float32, cupy.pi is a number
        else:
            value = self._function(name, getattr(self._host, name))
        self.__dict__[name] = value
        return value

    def _function(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def caller(*arguments: Any, **options: Any) -> Any:
            check(self._real, name, arguments, options)
            if name in SYNCHRONISING or (name == "where" and len(arguments) == 1):
                clock.current.synchronize()
                clock.counts["download"] += 1
            return call(name, function, arguments, options)

        return caller


class Device:
    """`cupy.cuda.Device`."""

    current = 0

    def __init__(self, device: int | None = None):
        self.id = Device.current if device is None else device

    def use(self) -> None:
        Device.current = clock.device = self.id

    def synchronize(self) -> None:
        for stream in clock.streams:
            stream.synchronize()

    @property
    def pci_bus_id(self) -> str:
        return f"0000:{VISIBLE[self.id]:02X}:00.0"

    @property
    def mem_info(self) -> tuple[int, int]:
        return 3 << 30, 4 << 30


def _pinned(*arguments: Any) -> Pinned:
    check(real.cuda, "alloc_pinned_memory", arguments, {})
    clock.counts["pinned"] += 1
    return Pinned(arguments[0])


_RUNTIME = types.SimpleNamespace(
    getDeviceCount=lambda: len(VISIBLE),
    driverGetVersion=lambda: 12040,
    runtimeGetVersion=lambda: 12040,
    is_hip=False,
    CUDA_R_32F=real.cuda.runtime.CUDA_R_32F,
    CUDA_R_64F=real.cuda.runtime.CUDA_R_64F,
    memGetInfo=lambda: (MEMORY, MEMORY),
    getDeviceProperties=lambda device: {"name": f"double of a GPU, number {device}".encode()},
)


class Cuda(Namespace):
    """`cupy.cuda`."""

    @functools.cached_property
    def cublas(self) -> types.ModuleType:
        return importlib.import_module("double.cublas")


_CUDA = {
    "Stream": Stream,
    "Event": Event,
    "Device": Device,
    "MemoryPool": MemoryPool,
    "using_allocator": using_allocator,
    "alloc_pinned_memory": _pinned,
    "get_current_stream": lambda *device: clock.current,
    "runtime": _RUNTIME,
}


class RawKernel:
    """`cupy.RawKernel`, for kernels that touch no memory."""

    def __init__(self, code: str, name: str):
        self.name = name

    def __call__(self, grid: tuple, block: tuple, arguments: tuple) -> None:
        clock.work(self.name)


_TYPES = {name: value for name, value in vars(real._core._routines_linalg).items() if name.startswith("COMPUTE_TYPE_")}


def _set_compute_type(dtype: Any, compute_type: int) -> None:
    check(real._core, "set_compute_type", (dtype, compute_type), {})
    (clock.compute_type,) = (name.removeprefix("COMPUTE_TYPE_") for name, v in _TYPES.items() if v == compute_type)


_OWN = {
    "_core": types.SimpleNamespace(
        set_compute_type=_set_compute_type, _routines_linalg=types.SimpleNamespace(**_TYPES)
    ),
    "RawKernel": RawKernel,
    "ElementwiseKernel": ElementwiseKernel,
    "ndarray": ndarray,
    "cuda": Cuda("cupy.cuda", real.cuda, None, _CUDA),
    "empty": _empty,
    "copyto": _copyto,
    "asnumpy": _asnumpy,
    "may_share_memory": _may_share_memory,
    "get_default_memory_pool": lambda: clock.pool,
    **{name: _created(name) for name in ("zeros", "ones", "full", "arange", "eye", "identity", "linspace")},
    **{name: _transfer(name) for name in ("array", "asarray", "ascontiguousarray")},
}
cupy = Namespace("cupy", real, numpy, _OWN)
cupy.__version__ = real.__version__


@contextlib.contextmanager
def _allow_synchronize(allow: bool) -> Iterator[None]:
    """Refuse, at the end of the block, that the host has waited for the device in it, unless that is allowed."""
    with clock.counted() as counts:
        yield
    if counts["synchronise"] and not allow:
        raise Hazard(f"the host has waited {counts['synchronise']} times for the device")


cupyx = types.ModuleType("cupyx")
cupyx.allow_synchronize = _allow_synchronize
