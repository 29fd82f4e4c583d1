"""Makes the package `benchmarks` of this checkout importable, behind whatever is installed."""
import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2]))
