"""The first difference between two rules in words and, if it is a well-known mistake, the lesson of that mistake."""

import contextlib
import textwrap
from functools import cache, partial

import numpy as np
from cases import equal, history
from mistakes import load, read_mistakes

ROUNDING = {"float32": 1e-4, "float64": 1e-10}  # relative distance of numbers that differ by rounding alone


def check(rule, case, expected, gradients=True):
    """Raise `AssertionError` unless the rule does on a case what `expected`, a list of moments, says.

    gradients: compare the pseudo-gradients too, and not only which units have made one.
    """
    __tracebackhide__ = True  # pytest then shows the student's lines, not these
    try:
        moments = history(rule, case)
    except (AssertionError, NotImplementedError):
        raise
    except Exception as error:
        for lesson in lessons(rule, partial(same_error, case=case, error=error)):
            error.add_note(lesson)
        raise
    complaint = difference(moments, expected, gradients)
    if complaint:
        known = lessons(rule, lambda wrong: not difference(moments, history(wrong, case), gradients))
        raise AssertionError("\n".join([f"On {case}:", complaint, *known]))


def lessons(rule, same):
    """The lessons of the well-known mistakes in the student's class `rule` for which `same(wrong class)` is true."""
    found = []
    for mistake, wrong in wrong_classes(rule.__name__):
        with contextlib.suppress(Exception):  # a mistake that does not get as far as the student's code
            if same(wrong):
                words = f"A rule with a well-known mistake does just the same: {mistake.lesson}"
                found.append("\n" + textwrap.fill(words, 100))
    return found


@cache
def wrong_classes(name):
    """The mistakes in the class of this name that have a lesson, each with the class that makes it."""
    mistakes = [mistake for mistake in read_mistakes() if mistake.inside == name and mistake.lesson]
    return [(mistake, getattr(load(mistake.source(), mistake.name), name)) for mistake in mistakes]


def same_error(wrong, case, error):
    """Whether a class stops with this very error at the same tick: `history` notes the tick."""
    try:
        history(wrong, case)
    except Exception as other:
        return (type(other), other.args, other.__notes__[:1]) == (type(error), error.args, error.__notes__[:1])
    return False


def difference(moments, expected, gradients=True):
    """The first difference between two histories in words, or "" if they are equal to the last bit."""
    for moment, right in zip(moments, expected, strict=True):
        words = difference_of_ticks(moment.tick, right.tick, gradients)
        words = words or difference_of_arrays("after this tick ", moment.arrays, right.arrays)
        if words:
            return f"{moment.name}: {words}."
    return ""


def difference_of_ticks(tick, right, gradients):
    """The first difference between two ticks in words, or ""."""
    if tick is None or right is None:
        return ""
    ran, should = set(tick.gradients), set(right.gradients)
    if ran - should:
        return f"{listed(ran - should)} ran backward, and should not yet; expected are {listed(should)}"
    if should - ran:
        return f"{listed(should - ran)} did not run backward; expected are {listed(should)}"
    for name, one, other in (("output", tick.output, right.output), ("value", tick.loss, right.loss)):
        if (one is None) != (other is None):
            seen = "nothing has reached the top yet" if other is None else "the top has run"
            return f"the {name} is {'None' if one is None else 'there'}, although {seen}"
        if not equal(one, other):
            what = "the output of the top" if name == "output" else "the value of the loss"
            return f"{what} {distance(one, other)}"
    return difference_of_arrays("the pseudo-gradient of ", tick.gradients, right.gradients) if gradients else ""


def difference_of_arrays(prefix, arrays, right):
    """The first difference between two dictionaries unit → name → array, from the top down, in words, or ""."""
    for unit in sorted(right, key=lambda name: int(name.removeprefix("unit")), reverse=True):
        if arrays[unit].keys() != right[unit].keys():
            return f"{prefix}{unit} has the names {listed(arrays[unit])}; expected are {listed(right[unit])}"
        for key, array in right[unit].items():
            if not equal(arrays[unit][key], array):
                return f"{prefix}{unit}, {key!r}, {distance(arrays[unit][key], array)}"
    return ""


def distance(array, right):
    """How far an array is from the right one, in words."""
    array, right = np.asarray(array), np.asarray(right)
    if array.shape != right.shape or array.dtype != right.dtype:
        return f"is {array.dtype} {array.shape} instead of {right.dtype} {right.shape}"
    relative = float(np.linalg.norm(array - right) / max(np.linalg.norm(right), 1e-30))
    if relative < ROUNDING[str(right.dtype)]:
        return (
            f"is right to rounding (relative distance {relative:.0e}), but not to the last bit: the same numbers are "
            "added or multiplied in another order than the description says"
        )
    return f"is wrong (relative distance {relative:.2g})"


def listed(names):
    """Names in a readable order."""
    return ", ".join(sorted(map(str, names))) or "none"
