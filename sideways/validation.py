"""Validation of what users write: arguments of the command line, and options that come as text or as TOML tables.

Options are checked when they enter the library, against the signature of the class or function that takes them.
"""

from __future__ import annotations

import argparse
import inspect
import reprlib
from collections.abc import Callable, Collection, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, NoReturn, TypeVar, get_args, get_origin, get_type_hints

from sideways.errors import InputError

LARGEST = 2**63 - 1  # of whole numbers: what NumPy and the C library can count
Number = TypeVar("Number", int, float)

LONGEST_WORD = 400  # letters

# Arguments -----------------------------------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """A parser that refuses bad arguments in one line, with exit code 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {one_line(message)}; see {self.prog} --help\n")


def one_line(message: object) -> str:
    """A message as a single line for any terminal, without the middle of words that are hundreds of letters long."""
    text = "".join(c if c.isprintable() else _escaped(c) for c in str(message))
    return " ".join(word if len(word) <= LONGEST_WORD else f"{word[:20]}…{word[-10:]}" for word in text.split(" "))


def _escaped(character: str) -> str:
    """A character as text: `\\xff` for a byte of a file name that is not UTF-8, else as in Python."""
    code = ord(character)
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else character.encode("unicode_escape").decode()


def is_text(name: str) -> bool:
    """Say whether a name can be written into any file: UTF-8, without characters that control a terminal."""
    return name.isprintable()


def whole_number(text: str) -> int:
    """Read a whole number of at most 64 bits, the type of an option of the command line."""
    return _number(text, int, lambda value: abs(value) <= LARGEST, "a whole number below 2**63")


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
    if value is None or not allowed(value) or (isinstance(value, int) and abs(value) > LARGEST):
        raise argparse.ArgumentTypeError(f"{description} is wanted, not {shown(text)}")
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
        raise InputError(f"{name} must be {type_in_words(hint)}, not {shown(value)}")


def check_numbers(name: str, value: Any) -> None:
    """Raise `InputError`, which names the option, if a whole number in a value or in its tables has over 64 bits."""
    if isinstance(value, dict):
        for key, entry in value.items():
            check_numbers(f"{name}.{key}", entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            check_numbers(name, entry)
    elif isinstance(value, int) and abs(value) > LARGEST:
        raise InputError(f"{name}: whole numbers must be below 2**63, not {shown(value)}")


class _Short(reprlib.Repr):
    """Values as messages show them: shortened if they are long or nested deeply, however large their numbers are."""

    def repr_int(self, value: int, level: int) -> str:
        bits = value.bit_length()
        return repr(value) if bits <= 128 else f"a whole number of about {round(bits * 0.30103):,} digits"


_SHORT = _Short()
_SHORT.maxstring = _SHORT.maxother = 120
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = 20


def shown(value: object) -> str:
    """A value as messages show it: its `repr`, but short."""
    return _SHORT.repr(value)


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
