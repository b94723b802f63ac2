"""The names and signatures of the installed CuPy, which can be imported, but not used, without a GPU."""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = str(Path(__file__).parent / "path")


def _real() -> ModuleType:
    """The real CuPy, although the double's folder comes first on the path."""
    path, double = sys.path[:], sys.modules.pop("cupy", None)
    sys.path[:] = [folder for folder in path if folder != HERE]
    try:
        return importlib.import_module("cupy")
    except ImportError:
        raise RuntimeError("the device double needs CuPy's wheel for its names: pip install '.[double]'") from None
    finally:
        sys.path[:] = path
        sys.modules.pop("cupy", None)  # frees the names for the double
        sys.modules.pop("cupyx", None)
        if double is not None:
            sys.modules["cupy"] = double


real = _real()


@functools.cache
def signature_of(owner: Any, name: str) -> inspect.Signature:
    """The signature of CuPy's function or method. A compiled one gives it in the first line of its docstring."""
    function = getattr(owner, name)
    try:
        return inspect.signature(function)
    except (ValueError, TypeError):
        line = (function.__doc__ or "").strip().splitlines()[0]
        stated = re.search(r"\((.*?)\)(?: ->.*)?$", line)
        if stated is None:
            raise LookupError(f"cupy's {name} does not say what it takes") from None
        parameters = [_bare(part) for part in stated[1].replace("\\", "").split(",")]
        return inspect.signature(eval(f"lambda {', '.join(parameters)}: None"))


def _bare(parameter: str) -> str:
    """`size_t size` → `size`."""
    name, equals, default = parameter.strip().partition("=")
    return name.split()[-1] + equals + default if name.strip() else name


def check(owner: Any, name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    """Raise `TypeError`, as CuPy would, for arguments that CuPy's function does not take."""
    try:
        signature_of(owner, name).bind(*arguments, **options)
    except TypeError as error:
        raise TypeError(f"cupy.{name}: {error}") from None
