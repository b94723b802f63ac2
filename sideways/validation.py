"""The door: options that come as text or tables are checked against the signature of what they are for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, get_args, get_origin, get_type_hints

from sideways.errors import InputError

WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a string",
    dict: "a table",
    type(None): "nothing",
}


def check_options(
    what: str, target: Callable[..., Any], options: Mapping[str, Any], also: Mapping[str, Any] | None = None, besides=()
) -> None:
    """Refuse options that `target`, a class or function, does not take, or not of this type, and missing ones.

    what: names the target in the message. also: further options that it may be given, and their types.
    besides: parameters of the target that are not options.
    """
    known = {name: entry for name, entry in parameters_of(target).items() if name not in besides}
    types = {name: hint for name, (hint, _) in known.items()} | dict(also or {})
    for name, value in options.items():
        if name not in types:
            raise InputError(f"{what} has no option {name!r}; it has {', '.join(types) or 'none'}")
        check_type(f"{what}: {name}", value, types[name])
    for name, (hint, needed) in known.items():
        if needed and name not in options:
            raise InputError(f"{what} needs {name}, {in_words(hint)}")


def parameters_of(target: Callable[..., Any]) -> dict[str, tuple[Any, bool]]:
    """name → (type, has no default), those of base classes that `**options` lead to included."""
    found: dict[str, tuple[Any, bool]] = {}
    functions: Sequence[Any] = [target]
    if isinstance(target, type):
        functions = [c.__dict__["__init__"] for c in target.__mro__ if "__init__" in c.__dict__]
    for function in functions:
        parameters = inspect.signature(function).parameters.values()
        hints = get_type_hints(function)
        for entry in parameters:
            if entry.name in hints and entry.kind not in (entry.VAR_KEYWORD, entry.VAR_POSITIONAL):
                found.setdefault(entry.name, (hints[entry.name], entry.default is entry.empty))
        if not any(entry.kind is entry.VAR_KEYWORD for entry in parameters):
            break
    return found


def check_type(what: str, value: Any, hint: Any) -> None:
    """`InputError` unless the value is of the type."""
    if not fits(value, hint):
        raise InputError(f"{what} must be {in_words(hint)}, not {value!r}")


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a type as it stands in a signature; whole numbers are numbers, true and false are not."""
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
    return any(fits(value, part) for part in parts)  # int | None


def in_words(hint: Any) -> str:
    """A type, for a message."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is None:
        return WORDS.get(hint, "a path" if hasattr(hint, "__fspath__") else str(hint))
    if origin is dict:
        return "a table" if parts[1] is Any else f"a table, each value {in_words(parts[1])}"
    if isinstance(origin, type) and issubclass(origin, Collection):
        return f"a list, each entry {in_words(parts[0])}"
    return " or ".join(in_words(part) for part in parts if part is not type(None))
