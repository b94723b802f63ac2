"""What the command line prints as one line, without a traceback: bad input (exit code 2), divergence (1)."""


class InputError(ValueError):
    """Bad input: the message says what is wrong, where, and what would fix it."""


class DivergedError(ArithmeticError):
    """Training left the numbers: the message names the unit and the step."""


class Interrupted(KeyboardInterrupt):
    """Asked to stop: the run has written a checkpoint and ends."""


def printable(name: object) -> str:
    """A file name that can be printed and written anywhere: bytes of it that are not UTF-8 are shown as `\\xff`."""
    return str(name).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
