"""Benchmarks, one in each module: `sideways bench …`."""
