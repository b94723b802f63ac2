"""What the command line prints as one line instead of a traceback: bad input (exit code 2), training that diverged (1)."""


class InputError(ValueError):
    """Bad input: the message says what is wrong, where, and what would fix it."""


class Diverged(ArithmeticError):
    """Training left the numbers: the message names the unit and the step."""
