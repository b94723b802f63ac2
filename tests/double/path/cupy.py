"""`import cupy`, where this folder comes first on the path, is the device double."""

import importlib.util
import sys
from pathlib import Path

if (tests := str(Path(__file__).parents[2])) not in sys.path:
    sys.path.append(tests)

from double.namespace import cupy, cupyx

sys.modules["cupyx"] = cupyx
sys.modules["cupy"] = cupy


class _OfNCCL:
    """Finds the double's `cupy.cuda.nccl`, which needs MPI and a compiler, when it is asked for."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        return importlib.util.find_spec("double.nccl") if name == "cupy.cuda.nccl" else None


sys.meta_path.insert(0, _OfNCCL)
