"""Benchmarks: `sideways bench …`."""
