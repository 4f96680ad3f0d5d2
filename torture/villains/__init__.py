"""Villains that misbehave over the network, each a coroutine of a `Target`, in a process of their own.

`python -m torture.villains NAME TARGET` runs one and prints its counts as JSON; TARGET is JSON.
Every villain is bounded in number and time. They need no privileges: anybody who can
reach a node's ports could do the same.
"""
