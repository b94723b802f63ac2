"""What the command line prints as one line, without a traceback: bad input (exit code 2), divergence (1)."""


class InputError(ValueError):
    """Bad input: the message says what is wrong, where, and what would fix it."""


class DivergedError(ArithmeticError):
    """Training left the numbers: the message names the unit and the step."""
