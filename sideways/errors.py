"""The one exception for mistakes that the user can mend; the command line prints it in one line and exits with 2."""


class InputError(ValueError):
    """Bad input: the message says what is wrong, where, and what would fix it."""
