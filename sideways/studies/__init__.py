"""What was measured and claimed: the demo, the benchmarks and the experiments behind each claim."""
