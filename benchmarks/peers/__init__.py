"""Loops that a user could pick instead, measured on the same jobs: `python -m benchmarks.peers`."""
