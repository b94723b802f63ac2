"""Settings of all tests: one BLAS thread, and the same hundred examples of every property in every run."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from hypothesis import HealthCheck, settings

settings.register_profile(
    "fixed",
    max_examples=100,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
settings.load_profile("fixed")


def pytest_ignore_collect(collection_path, config):
    """The comparisons with PyTorch are not even read unless they are asked for: pytest -m peer."""
    return True if collection_path.name == "peer" and config.option.markexpr != "peer" else None
