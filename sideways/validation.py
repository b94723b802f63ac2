"""Validation of what users write: arguments of the command line, and options that come as text or as TOML tables.

Options are checked when they enter the library, against the signature of the class or function that takes them.
"""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, NoReturn, TypeVar, get_args, get_origin, get_type_hints

from sideways.errors import InputError

Number = TypeVar("Number", int, float)

# Arguments -----------------------------------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """A parser that refuses bad arguments in one line, with exit code 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def positive(text: str) -> int:
    """Read a whole number of at least 1."""
    return _number(text, int, lambda value: value >= 1, "a number of at least 1")


def count(text: str) -> int:
    """Read a whole number of at least 0."""
    return _number(text, int, lambda value: value >= 0, "0 or a greater number")


def above_zero(text: str) -> float:
    """Read a finite number above 0, such as a time or a rate."""
    return _number(text, float, lambda value: 0 < value < float("inf"), "a number above 0")


def _number(text: str, kind: Callable[[str], Number], allowed: Callable[[Number], bool], description: str) -> Number:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not allowed(value):
        raise argparse.ArgumentTypeError(f"{description} is wanted, not {text!r}")
    return value


# Options -------------------------------------------------------------------------------------------------------------

TYPE_NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a string",
    dict: "a table",
    type(None): "nothing",
}


def check_options(
    owner: str,
    target: Callable[..., Any],
    options: Mapping[str, Any],
    also: Mapping[str, Any] | None = None,
    besides: Collection[str] = (),
) -> None:
    """Raise `InputError` for options that a class or function does not take, for wrong types and for missing options.

    owner: names the target in the message, such as "optimizer 'adam'".
    target: the class or function that will be called with the options.
    also: further options that are allowed, and their types.
    besides: parameters of the target that are not options.
    """
    parameters = {name: entry for name, entry in parameters_of(target).items() if name not in besides}
    types = {name: hint for name, (hint, _) in parameters.items()} | dict(also or {})
    for name, value in options.items():
        if name not in types:
            raise InputError(f"{owner} has no option {name!r}; it has {', '.join(types) or 'none'}")
        check_type(f"{owner}: {name}", value, types[name])
    for name, (hint, required) in parameters.items():
        if required and name not in options:
            raise InputError(f"{owner} needs {name}, {type_in_words(hint)}")


def parameters_of(target: Callable[..., Any]) -> dict[str, tuple[Any, bool]]:
    """The parameters of a class or function, name → (type, has no default).

    A class whose `__init__` takes `**options` hands them to its base class, so that the base's parameters count too.
    """
    parameters: dict[str, tuple[Any, bool]] = {}
    functions: Sequence[Any] = [target]
    if isinstance(target, type):
        functions = [c.__dict__["__init__"] for c in target.__mro__ if "__init__" in c.__dict__]
    for function in functions:
        entries = inspect.signature(function).parameters.values()
        hints = get_type_hints(function)
        for entry in entries:
            if entry.name in hints and entry.kind not in (entry.VAR_KEYWORD, entry.VAR_POSITIONAL):
                parameters.setdefault(entry.name, (hints[entry.name], entry.default is entry.empty))
        if not any(entry.kind is entry.VAR_KEYWORD for entry in entries):
            break
    return parameters


def check_type(name: str, value: Any, hint: Any) -> None:
    """Raise `InputError`, which names the option, unless the value is of the type."""
    if not fits(value, hint):
        raise InputError(f"{name} must be {type_in_words(hint)}, not {value!r}")


def fits(value: Any, hint: Any) -> bool:
    """Say whether a value is of a type as a signature writes it; an int is a float too, but a bool is neither."""
    origin, parts = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin is None:
        number = {int: Integral, float: Real}.get(hint)
        return isinstance(value, number) and not isinstance(value, bool) if number else isinstance(value, hint)
    if origin is dict:
        return isinstance(value, dict) and all(fits(k, parts[0]) and fits(v, parts[1]) for k, v in value.items())
    if isinstance(origin, type) and issubclass(origin, Collection):
        is_list = isinstance(value, Collection) and not isinstance(value, str | bytes | Mapping)
        return is_list and all(fits(entry, parts[0]) for entry in value)
    return any(fits(value, part) for part in parts)  # a union, such as int | None


def type_in_words(hint: Any) -> str:
    """A type as messages name it, such as "a list, each entry a number"."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is None:
        return TYPE_NAMES.get(hint, "a path" if hasattr(hint, "__fspath__") else str(hint))
    if origin is dict:
        return "a table" if parts[1] is Any else f"a table, each value {type_in_words(parts[1])}"
    if isinstance(origin, type) and issubclass(origin, Collection):
        return f"a list, each entry {type_in_words(parts[0])}"
    return " or ".join(type_in_words(part) for part in parts if part is not type(None))
