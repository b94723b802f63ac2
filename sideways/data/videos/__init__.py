"""Videos: reading files and data sets, and decoding clips ahead of the tick."""
