"""Run `python -m sideways …` like `sideways …`."""

import sys

from sideways.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
