"""Ctrl-C while the modules of the command are imported: a line, and no traceback. Imported first of all.

Nothing happens in a program or notebook that imports the library, nor in the processes that the command starts.
"""

import os
import signal
import sys
import threading
from typing import Any


def is_command() -> bool:
    """Say whether this process was started as `sideways …` or as `python -m sideways …`."""
    arguments = sys.orig_argv[1:]
    if "-m" in arguments[:-1]:
        return arguments[arguments.index("-m") + 1] == "sideways"
    return os.path.basename(next((word for word in arguments if not word.startswith("-")), "")) == "sideways"


def end_now(number: int, frame: Any) -> None:
    """End the process at once: an exception could be lost, or change its type, inside a module that is imported."""
    os.write(2, b"sideways: interrupted\n")
    os._exit(130)


def raise_again() -> None:
    """Let Ctrl-C raise `KeyboardInterrupt` again, once all modules are imported."""
    if signal.getsignal(signal.SIGINT) is end_now:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def end_on_ctrl_c() -> None:
    """Call `end_now` on Ctrl-C, unless Ctrl-C is ignored, as in a job in the background."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end_now)


if is_command() and threading.current_thread() is threading.main_thread():
    end_on_ctrl_c()
