"""Studies of the library: the demo, the benchmarks, and the experiments behind the claims."""
