"""The frame of the command line: all commands by name, and the exit code of each outcome.

The module of a command has `HELP`, its line in `sideways --help`, and `add(parser)`, which gives the command's parser
its options and sets `run`, the function that carries the command out.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence

from sideways.commands import (
    bench,
    claims,
    compare,
    data,
    demo,
    doctor,
    evaluate,
    explore,
    export,
    models,
    plot,
    predict,
    recipes,
    summary,
    train,
)
from sideways.errors import DivergedError, InputError
from sideways.interruption import raise_again
from sideways.mpi.launch import ranks_started, start
from sideways.validation import Parser, one_line

COMMANDS = {  # in the order of `sideways --help`
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "export": export,
    "compare": compare,
    "data": data,
    "demo": demo,
    "claims": claims,
    "bench": bench,
    "explore": explore,
    "plot": plot,
    "doctor": doctor,
    "models": models,
    "recipes": recipes,
    "summary": summary,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code: 0, 1 if training diverged, 2 for bad input, 130 after Ctrl-C."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    name = next((argument for argument in arguments if not argument.startswith("-")), "")
    if ranks_started() > 1:
        if name != "train":
            return _complain("mpirun starts `sideways train`; the other commands run in one process, without it", 2)
        start([argument for argument in arguments if argument != name])
    options = command_line(name).parse_args(arguments)
    raise_again()  # the imports are over, but for those that a command makes itself
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file name may hold bytes that are not UTF-8
    try:
        options.run(options)
    except InputError as error:
        return _complain(error, 2)
    except OSError as error:
        file = f"{error.filename}: " if error.filename else ""
        return _complain(f"{file}{error.strerror or error}", 2)
    except MemoryError as error:
        return _complain(f"out of memory: {error or 'an array does not fit'}; choose a smaller --batch or model", 2)
    except DivergedError as error:
        return _complain(error, 1)
    except KeyboardInterrupt as interrupt:
        return _complain(str(interrupt) or "interrupted", 130)
    return 0


def command_line(name: str | None = None) -> argparse.ArgumentParser:
    """Make the parser of all commands.

    name: the only command that gets its options (None: every command does). The options of `train` name all models,
    rules and tasks, and so import them; the other commands, and `sideways --help`, start without these imports.
    """
    parser = Parser(
        prog="sideways",
        description="Train deep networks on video streams without ever stopping for a backward pass.",
        epilog="Try: sideways demo; sideways train waves-skip; sideways summary vgg8-skip.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command, module in COMMANDS.items():
        command_parser = commands.add_parser(command, help=module.HELP)
        if name in (None, command):
            module.add(command_parser)
    return parser


def _complain(message: object, exit_code: int) -> int:
    print(f"sideways: {one_line(message)}", file=sys.stderr)
    return exit_code
