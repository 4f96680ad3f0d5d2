"""The benchmark: `python -m bench`. Not part of what is installed; see docs/benchmarks.md."""
