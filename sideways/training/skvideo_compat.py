"""Make the measures of scikit-video 1.1.11 (2018, the newest on PyPI) work on today's NumPy.

Its modules get back the type names that NumPy 1.24 removed; the global `numpy` is left alone. scikit-video 1.2 and
later do not need these names, and do not get them.
"""

from __future__ import annotations

import functools
import importlib
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy


class _OldNumPy(SimpleNamespace):
    """NumPy with the aliases that scikit-video 1.1 uses."""

    int, float, bool, object = int, float, bool, object

    def __getattr__(self, name: str) -> Any:
        return getattr(numpy, name)


@functools.cache
def measures() -> ModuleType:
    """Return `skvideo.measure`, ready to use. It is imported at the first call, since its SciPy takes long."""
    import skvideo

    module = importlib.import_module("skvideo.measure")
    if tuple(int(part) for part in skvideo.__version__.split(".")[:2]) < (1, 2):
        for name, part in list(sys.modules.items()):
            if name.startswith("skvideo.") and getattr(part, "np", None) is numpy:
                vars(part)["np"] = _OldNumPy()
    return module
