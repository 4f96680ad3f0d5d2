"""Raft in the conformance suite of one occupant, alone and as one of three."""

from __future__ import annotations

from typing import ClassVar

from ourolog.actors.election.raft.election import RaftElection
from ourolog.actors.testing.election_conformance import ElectionConformance


class TestOneOfThree(ElectionConformance):
    occupant = RaftElection
    election = RaftElection.choose("raft", "n1,n2,n3")
    cluster_id: ClassVar[int] = 7


class TestTheOnlyVoter(ElectionConformance):
    occupant = RaftElection
    election = RaftElection.choose("raft", "n1")
    informant = "n1"
    cluster_id: ClassVar[int] = 7
