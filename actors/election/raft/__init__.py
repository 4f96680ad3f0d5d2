"""Raft in the election slot, in its pull form (Ongaro and Ousterhout 2014; KIP-595, KIP-853, KIP-996).

- `rules`: every decision, as pure functions beside the sections of the paper; `steps`: the words that they use.
- `election`: the actor, which hears what happens, lets the rules decide, and does what they say. `decisions`: the
  state, and what waits while the disk saves a ballot; `timers`; `calls`: what voters ask each other.
- `electorate`: who votes, and where they are. `cluster_identity`: to which cluster that disk belongs; `founding`: who
  votes first; `generations`: who has taken over after a recovery.
- `leadership`: what a leader does besides. `hand_over`: how one that stops lets another one take over; `standbys`,
  `voter_changes` and `voter_changer`: who copies, and which of them votes when.

Nothing here knows what a batch is. Commit positions, divergence and truncation are the replicator's.
"""
