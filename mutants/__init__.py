"""Deliberate bugs, to see whether the simulation finds them. Nothing here is shipped.

`python -m mutants` runs each in processes of its own and prints how many seeds it took to find it.
"""
