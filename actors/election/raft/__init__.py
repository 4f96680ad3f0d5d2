"""Raft in the election slot, in its pull form (Ongaro and Ousterhout 2014; KIP-595, KIP-853, KIP-996).

- `rules`: every decision, as pure functions beside the sections of the paper; `steps`: the words that they use.
- `election`: the actor, which hears what happens, lets the rules decide, and does what they say; `calls`: what
  voters ask each other, in both directions.
- `founding`: who votes first. `hand_over`: how a leader that stops lets another one take over.

Nothing here knows what a batch is. Commit positions, divergence and truncation are the replicator's.
"""
