"""Benchmarks of mpfast against the standard library and its peers: ``python -m benchmarks --help``."""
