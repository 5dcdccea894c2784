"""Side-by-side measurements against peers; `python -m benchmarks.run` and `python -m benchmarks.augment`."""
