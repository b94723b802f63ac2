"""The errors that the command line prints as one line without a traceback."""


class InputError(ValueError):
    """Bad input: the message says what is wrong, where, and what would fix it. The exit code is 2."""


class DivergedError(ArithmeticError):
    """Training has diverged: the message names the unit and the step. The exit code is 1."""


class Interrupted(KeyboardInterrupt):
    """A run was asked to stop, has written a checkpoint and ends. The exit code is 130."""


def printable(name: object) -> str:
    """Write a file name as text for any terminal or file; bytes that are not UTF-8 become `\\xff`."""
    return str(name).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
