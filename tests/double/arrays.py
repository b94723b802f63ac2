"""The double's `cupy.ndarray`: not a NumPy array; its values reach the host by explicit transfers alone.

Differences from NumPy that this project meets (CuPy's user guide, "Differences between CuPy and NumPy"): reductions and
single elements are arrays without axes; functions take only device arrays and scalars; an index beyond the end wraps
around in silence, and among equal indices in an assignment any may win. The double refuses both kinds of indices.
"""

from __future__ import annotations

import operator
import types
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy

from double.clock import Copy, Hazard, Memory, Stream, clock, pinned_memory
from double.signatures import check, real
from double.values import poison, product_in_tf32

IMPLICIT = (
    "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array explicitly."
)
Scalar = (bool, int, float, complex, numpy.generic)


class ndarray:  # noqa: N801
    """An array on the device. Only this package reads `_values`, the memory that stands for the device's."""

    # The double is stricter than CuPy: it also refuses numpy.tanh(x) and numpy.sum(x), which CuPy would compute itself.
    __array_ufunc__ = None

    def __array_function__(self, function: Any, *others: Any) -> Any:
        raise TypeError(f"numpy.{function.__name__} of a cupy.ndarray")

    def __init__(self, values: numpy.ndarray, memory: Memory):
        self._values, self._memory = values, memory

    # Attributes that the host knows without asking the device

    shape = property(lambda self: self._values.shape)
    dtype = property(lambda self: self._values.dtype)
    size = property(lambda self: self._values.size)
    ndim = property(lambda self: self._values.ndim)
    nbytes = property(lambda self: self._values.nbytes)
    itemsize = property(lambda self: self._values.itemsize)
    strides = property(lambda self: self._values.strides)
    flags = property(lambda self: self._values.flags)
    device = property(lambda self: types.SimpleNamespace(id=self._memory.device))

    @property
    def data(self) -> Any:
        """The address, for libraries that take one; it stands for this array as long as somebody holds the array."""
        address = self._values.ctypes.data
        clock.pointers[address] = self
        return types.SimpleNamespace(ptr=address)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        raise TypeError("unhashable type: 'ndarray'")

    # Transfers

    def __array__(self, *arguments: Any, **options: Any) -> numpy.ndarray:
        raise TypeError(IMPLICIT)

    def get(self, *arguments: Any, **options: Any) -> numpy.ndarray:
        check(real.ndarray, "get", (self, *arguments), options)
        return self._get(*arguments, **options)

    def _get(self, stream: Stream | None = None, order: str = "C", out: Any = None, blocking: bool = True):
        stream = clock.current if stream is None else stream
        clock.counts.update(download=1, download_bytes=self.nbytes)
        with clock.inside(stream):
            clock.work("a download", reads=[self._memory])
        if out is None:
            blocking, out = True, numpy.empty(self.shape, self.dtype, order)
        if not isinstance(out, numpy.ndarray) or out.dtype != self.dtype:
            raise TypeError("`out` must be a NumPy array of the same dtype")
        if out.shape != self.shape:
            raise ValueError(f"shape mismatch: {self.shape} into {out.shape}")
        if not (out.flags.c_contiguous and self.flags.c_contiguous):
            raise RuntimeError("`out` cannot be specified when copying to non-contiguous ndarray")
        memory = pinned_memory(out)
        if memory is not None and memory.busy:
            raise Hazard(f"a download into pinned memory that is being {memory.busy} by MPI")
        if blocking:
            stream.synchronize()
            out[...] = self._values
        elif memory is None:
            raise Hazard("an asynchronous copy into memory that is not pinned")
        else:
            Copy(stream, out, self._values, down=True)
        return out

    def set(self, arr: numpy.ndarray, stream: Stream | None = None) -> None:
        if not isinstance(arr, numpy.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if arr.dtype != self.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if arr.shape != self.shape:
            raise ValueError(f"Shape mismatch: {arr.shape} into {self.shape}")
        if not (arr.flags.c_contiguous and self.flags.c_contiguous):
            raise RuntimeError("Cannot set to non-contiguous array")
        memory = pinned_memory(arr)
        if memory is None:
            raise Hazard("an upload from memory that is not pinned makes the host wait")
        if clock.graph is not None:
            raise Hazard("an upload while a graph is captured")
        if memory.busy == "received":
            raise Hazard("an upload of a message that MPI is still receiving")
        clock.counts.update(upload=1, upload_bytes=self.nbytes)
        stream = clock.current if stream is None else stream
        with clock.inside(stream):
            clock.work("an upload", writes=[self._memory])
        self._values[...] = arr
        Copy(stream, arr, arr, down=False)

    def item(self) -> Any:
        return self._value().item()

    def tolist(self) -> Any:
        return self.get().tolist()

    def _value(self) -> numpy.ndarray:
        """The values, for the host, which waits for them."""
        return self._get()

    def __repr__(self) -> str:
        return repr(self._value())

    def __str__(self) -> str:
        return str(self._value())

    def __format__(self, specification: str) -> str:
        return format(self._value()[()], specification)

    # Elements

    def __getitem__(self, index: Any) -> ndarray:
        where, others = unwrapped(index)
        if any(other.dtype == bool for other in others):
            clock.current.synchronize()  # the host must know how many elements are chosen
            clock.counts["download"] += 1
        return result(self._values[where], [self, *others], compute=lambda: self._values[where])

    def __setitem__(self, index: Any, value: Any) -> None:
        where, others = unwrapped(index)
        value, of_value = unwrapped(value)
        for other in others:
            if other.dtype.kind in "iu":
                _check_distinct(self._values, where)
        clock.work("an assignment", [m._memory for m in (*others, *of_value)], [self._memory])
        clock.do(partial(self._values.__setitem__, where, value), even_if_only_counted=True)  # such as class indices

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    # Shapes and copies

    def reshape(self, *shape: Any, **options: Any) -> ndarray:
        check(real.ndarray, "reshape", (self, *shape), options)
        reshaped = partial(self._values.reshape, *shape, **options)
        return result(reshaped(), [self], compute=reshaped)

    def transpose(self, *axes: Any) -> ndarray:
        return result(self._values.transpose(*axes), [self])

    T = property(lambda self: self.transpose())

    def fill(self, value: Any) -> None:
        if not isinstance(value, Scalar):
            raise TypeError(f"Unsupported type {type(value)}")
        clock.work("fill", writes=[self._memory])
        clock.do(partial(self._values.fill, value))

    def copy(self, order: str = "C") -> ndarray:
        return result(self._values.copy(order), [self], compute=lambda: self._values.copy(order))

    def __copy__(self) -> ndarray:
        return self.copy()

    def __deepcopy__(self, memo: Any) -> ndarray:
        return self.copy()

    def __reduce__(self) -> Any:
        raise TypeError("device arrays are not pickled in this project")

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Any other method that both libraries have, with CuPy's signature."""
        if name.startswith("_") or not hasattr(real.ndarray, name):
            raise AttributeError(f"cupy.ndarray has no attribute {name!r}")

        def method(*arguments: Any, **options: Any) -> Any:
            check(real.ndarray, name, (self, *arguments), options)
            return call(name, getattr(numpy.ndarray, name), (self, *arguments), options)

        return method


def _check_distinct(values: numpy.ndarray, where: Any) -> None:
    """Refuse an assignment to equal indices."""
    indices = numpy.arange(values.size).reshape(values.shape)[where]
    if numpy.unique(indices).size != indices.size:
        raise Hazard("an assignment to equal indices: any of them may win")


def unwrapped(argument: Any) -> tuple[Any, list[ndarray]]:
    """Return an argument with NumPy's arrays in place of device arrays, and the device arrays. Refuses host arrays."""
    if isinstance(argument, ndarray):
        return argument._values, [argument]
    if isinstance(argument, numpy.ndarray):
        raise TypeError(f"Unsupported type {type(argument)}")
    if isinstance(argument, tuple | list):
        parts = [unwrapped(part) for part in argument]
        return type(argument)(part for part, _ in parts), [array for _, arrays in parts for array in arrays]
    return argument, []


def call(name: str, function: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Run NumPy's function on the memory of device arrays, as a piece of work in the current stream."""
    out = options.get("out")
    if name == "matmul" and clock.graph is not None:
        raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")
    values, arrays = unwrapped(arguments)
    unwrapped_options = {key: unwrapped(value) for key, value in options.items() if key != "out"}
    arrays += [array for _, of_option in unwrapped_options.values() for array in of_option]
    options = {key: value for key, (value, _) in unwrapped_options.items()}
    if out is None:
        compute = partial(function, *values, **options)
        return result(compute(), arrays, name, isinstance(function, numpy.ufunc), compute)
    if not isinstance(out, ndarray):
        raise TypeError(f"out must be a cupy.ndarray, not {type(out)}")
    if name == "matmul":
        _count_hidden_copies(arrays)
        if clock.compute_type == "TF32":
            function = product_in_tf32
    clock.work(name, [array._memory for array in arrays], [out._memory])
    clock.do(partial(function, *values, out=out._values, **options))
    return out


def _count_hidden_copies(arrays: list[ndarray]) -> None:
    """CuPy's products of many matrices copy an operand that is not C-contiguous."""
    for array in arrays:
        if array.ndim > 2 and not array.flags.c_contiguous:
            clock.work("a hidden copy", [array._memory])


def result(
    made: Any,
    arrays: list[ndarray],
    name: str = "an operation",
    fresh: bool = False,
    compute: Callable[[], Any] | None = None,
) -> Any:
    """Wrap a result of NumPy: as a view of one of these device arrays, or as new memory that is written now.

    compute: makes the result again, when a graph that is captured is launched.

    CuPy's elementwise functions make C-contiguous arrays, whatever the layout of their inputs.
    """
    if isinstance(made, tuple | list):
        assert clock.graph is None, "a captured operation with several results"
        return type(made)(result(part, arrays, name, fresh) for part in made)
    values = numpy.asarray(made)
    base = _root(values)
    for array in arrays:
        if base is array._memory.values:
            return ndarray(values, array._memory)
    if fresh and not values.flags.c_contiguous:
        values = base = numpy.ascontiguousarray(values)
    memory = Memory(base)
    clock.work(name, [array._memory for array in arrays], [memory])
    if clock.graph is not None:
        if compute is None:
            raise NotImplementedError(f"{name} while a graph is captured")
        values[...] = poison(values)
        clock.do(lambda: values.__setitem__(..., compute()))
    return ndarray(values, memory)


def _root(values: numpy.ndarray) -> Any:
    """The array that owns the memory of a view."""
    base: Any = values
    while getattr(base, "base", None) is not None:
        base = base.base
    return base


def new(values: numpy.ndarray) -> ndarray:
    """A device array of these values, which is written by work queued now."""
    memory = Memory(values)
    clock.work("a new array", writes=[memory])
    if clock.graph is not None:
        clock.do(partial(values.__setitem__, ..., values.copy()))
    return ndarray(values, memory)


def uninitialised(shape: Any, dtype: Any, order: str = "C") -> ndarray:
    """A device array that nobody has written into: it holds poison."""
    values = numpy.empty(shape, dtype, order)
    if clock.computes:
        values[...] = poison(values)
    return ndarray(values, Memory(values))


def _operator(name: str, function: Callable[..., Any], swapped: bool, in_place: bool) -> Callable[..., Any]:
    """The method of an operator such as `+`; swapped: for `__radd__`, in_place: for `__iadd__`."""

    def operate(self: ndarray, *others: Any) -> Any:
        if any(not isinstance(other, (ndarray, *Scalar)) for other in others):
            if all(hasattr(other, "__array__") for other in others):
                raise TypeError(f"Unsupported type {type(others[0])}")
            return NotImplemented
        if in_place:
            return call(name, function, (self, *others), {"out": self})
        return call(name, function, (*others, self) if swapped else (self, *others), {})

    return operate


UFUNCS = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "floordiv": "floor_divide",
    "mod": "remainder", "pow": "power", "matmul": "matmul", "and": "bitwise_and", "or": "bitwise_or",
    "xor": "bitwise_xor", "lshift": "left_shift", "rshift": "right_shift",
}  # fmt: skip
for _name, _ufunc in UFUNCS.items():
    _function = getattr(numpy, _ufunc)
    setattr(ndarray, f"__{_name}__", _operator(_ufunc, _function, False, False))
    setattr(ndarray, f"__r{_name}__", _operator(_ufunc, _function, True, False))
    setattr(ndarray, f"__i{_name}__", _operator(_ufunc, _function, False, True))
for _name, _ufunc in {"lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal", "eq": "equal",
                      "ne": "not_equal", "neg": "negative", "abs": "absolute", "invert": "invert"}.items():  # fmt: skip
    setattr(ndarray, f"__{_name}__", _operator(_ufunc, getattr(numpy, _ufunc), False, False))
for _name, _kind in {"bool": bool, "int": int, "float": float, "complex": complex, "index": operator.index}.items():
    setattr(ndarray, f"__{_name}__", lambda self, kind=_kind: kind(self._value()))
