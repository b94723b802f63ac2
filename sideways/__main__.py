"""`python -m sideways …` is `sideways …`."""

import sys


def main() -> int:
    """The command line. `sideways doctor` needs nothing that may be broken, not even the other commands."""
    if sys.argv[1:] == ["doctor"]:
        from sideways.doctor import doctor

        return doctor()
    from sideways.commands.main import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
