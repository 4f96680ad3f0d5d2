"""All mutants by name: importing this registers every one of them."""

from __future__ import annotations

import mutants.in_actors
import mutants.in_calls
import mutants.in_copying
import mutants.in_election
import mutants.in_founding
import mutants.in_gossip
import mutants.in_producers
import mutants.in_raft
import mutants.in_raft_disk
import mutants.in_raft_lead
import mutants.in_reads
import mutants.in_recover
import mutants.in_repair
import mutants.in_replicas
import mutants.in_replication
import mutants.in_server
import mutants.in_storage
import mutants.in_voter_changes  # noqa: F401  # importing registers
from mutants.mutant import MUTANTS

__all__ = ["MUTANTS"]
