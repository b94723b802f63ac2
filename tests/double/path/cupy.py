"""`import cupy`, where this folder comes first on the path, is the device double."""

import sys
from pathlib import Path

if (tests := str(Path(__file__).parents[2])) not in sys.path:
    sys.path.append(tests)

from double.namespace import cupy, cupyx

sys.modules["cupyx"] = cupyx
sys.modules["cupy"] = cupy
