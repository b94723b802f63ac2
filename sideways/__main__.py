"""`python -m sideways …` is `sideways …`."""

import sys

from sideways.cli import main

if __name__ == "__main__":
    sys.exit(main())
