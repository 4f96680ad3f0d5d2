"""The claims that a simulated cluster is held to, each a small class over the stream of events.

A checker takes the events one by one, in order, and raises Violation when its claim does not hold.
Those of this package share a `ClusterModel`, which knows from the same events what stands on every
disk. `ALL` has them by name; a new one is registered there.
"""

from __future__ import annotations

from typing import Final

from ourolog.simulation.checker import Checker
from ourolog.simulation.checkers.acknowledged import AcknowledgedDurable, AcknowledgedKept
from ourolog.simulation.checkers.agreement import CommittedAgree, LogMatching
from ourolog.simulation.checkers.answered import AnsweredOnce
from ourolog.simulation.checkers.answered_terms import AnswersNamePresentTerm
from ourolog.simulation.checkers.append_only import LeaderAppendOnly
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.bounds import StaysBounded
from ourolog.simulation.checkers.check_quorum import CheckQuorum
from ourolog.simulation.checkers.claims import DisputesAcknowledgeNothing, RivalDecreesNoticed
from ourolog.simulation.checkers.commit_news import CommitToldSoon
from ourolog.simulation.checkers.completeness import LeaderCompleteness
from ourolog.simulation.checkers.convergence import Convergence, Progress
from ourolog.simulation.checkers.copies import CopiesKept
from ourolog.simulation.checkers.copying import CommittedOnOwnDisk, FetchesAnsweredTruly
from ourolog.simulation.checkers.cycle import CopiesFaithful, CycleGrowth
from ourolog.simulation.checkers.decreed_lead import DecreedLeaderNotBehind
from ourolog.simulation.checkers.decreed_survey import DecreedLeaderAsked
from ourolog.simulation.checkers.decrees import AcknowledgedKeptAsDecreed, KnownCommittedKept
from ourolog.simulation.checkers.elected import LeaderElected, LeadsOnceElected
from ourolog.simulation.checkers.exactly_once import ExactlyOnce, NumberedWaitForCommit
from ourolog.simulation.checkers.failure_detection import FailureDetection
from ourolog.simulation.checkers.following import CommitSpreads, FollowersFollow, OneFetchAtATime
from ourolog.simulation.checkers.founding import FoundedByAll
from ourolog.simulation.checkers.generations import AcknowledgedByAllSurvive, GenerationsFenced
from ourolog.simulation.checkers.handed_on import HandedOn
from ourolog.simulation.checkers.handing_over import HandsOverWhole
from ourolog.simulation.checkers.held_produces import HandOverHolds
from ourolog.simulation.checkers.holding_on import LedVotersHoldOn
from ourolog.simulation.checkers.hung_disks import FailedDisksEndLeads, HungDisksEndLeads
from ourolog.simulation.checkers.keep_alives import FollowersCall
from ourolog.simulation.checkers.later_terms import LaterTermsEntered
from ourolog.simulation.checkers.latest_reads import LatestReadsLinearizable
from ourolog.simulation.checkers.lead_ends import LeadsEndForCause
from ourolog.simulation.checkers.lead_withheld import LeadWithheldForCause
from ourolog.simulation.checkers.leading import AppendsInTerm, CountsHonestly, TermsBegin
from ourolog.simulation.checkers.led import MajorityIsLed
from ourolog.simulation.checkers.linearizable import Linearizable
from ourolog.simulation.checkers.log_ends import LogEndsTrue
from ourolog.simulation.checkers.lost_leaders import LostLeadersTold
from ourolog.simulation.checkers.model import ClusterModel
from ourolog.simulation.checkers.on_disk import BatchesIntact, Contiguous, RefusedNotWritten, RetentionWaits
from ourolog.simulation.checkers.own_writes import ReadYourWrites
from ourolog.simulation.checkers.places import SamePlaceSameBytes
from ourolog.simulation.checkers.producer_memory import ProducerMemoryTrue
from ourolog.simulation.checkers.promises import BallotsOnDisk, FetchesHonest, PromisedOnDisk
from ourolog.simulation.checkers.ranges import RangesTrue
from ourolog.simulation.checkers.read_proofs import ReadsProved
from ourolog.simulation.checkers.readers import ReadersMoveForward, ReadersSeeCommitted
from ourolog.simulation.checkers.recovery import FailsForCause, RestartKeeps
from ourolog.simulation.checkers.refusals import RefusesForCause
from ourolog.simulation.checkers.repairs import (
    DamageNeverServed,
    RepairedEqual,
    RepairedInTime,
    RepairsCommittedOnly,
    ScrubFindsRot,
)
from ourolog.simulation.checkers.replicas import InSyncWaitedFor, ReplicasTrue
from ourolog.simulation.checkers.round_news import RoundsSpread
from ourolog.simulation.checkers.seeking import VotersAskedForLeader
from ourolog.simulation.checkers.standing import StandsWhenWanted
from ourolog.simulation.checkers.terms import CommitForward, OneLeaderATerm
from ourolog.simulation.checkers.voter_changes import (
    AddedOnceCaughtUp,
    OneChangeAtATime,
    RemovedLeadersLeave,
    RemovedStayRemoved,
    ReplacedInTime,
    VotersStand,
)
from ourolog.simulation.checkers.voter_sets import VotersInForce, VotersKept
from ourolog.simulation.checkers.votes import VotesByPresentEnd
from ourolog.simulation.checkers.waiting import ProducesAnswered, ReadersWoken
from ourolog.simulation.options import Options

_MINE: Final[tuple[type[EventChecker], ...]] = (
    BatchesIntact,
    Contiguous,
    PromisedOnDisk,
    AcknowledgedDurable,
    AcknowledgedKept,
    RefusedNotWritten,
    DamageNeverServed,
    ReadersSeeCommitted,
    ReadersMoveForward,
    Linearizable,
    LatestReadsLinearizable,
    ReadsProved,
    LogMatching,
    CommittedAgree,
    OneLeaderATerm,
    CommitForward,
    BallotsOnDisk,
    FetchesHonest,
    FetchesAnsweredTruly,
    CommittedOnOwnDisk,
    CopiesFaithful,
    CycleGrowth,
    RestartKeeps,
    RetentionWaits,
    FailsForCause,
    FailureDetection,
    Convergence,
    Progress,
    KnownCommittedKept,
    AcknowledgedKeptAsDecreed,
    DisputesAcknowledgeNothing,
    RivalDecreesNoticed,
    AnsweredOnce,
    ReadersWoken,
    ProducesAnswered,
    HandedOn,
    HandOverHolds,
    OneFetchAtATime,
    FollowersFollow,
    CommitSpreads,
    CommitToldSoon,
    FollowersCall,
    LostLeadersTold,
    TermsBegin,
    AppendsInTerm,
    CountsHonestly,
    InSyncWaitedFor,
    ReplicasTrue,
    CopiesKept,
    ReadYourWrites,
    SamePlaceSameBytes,
    StaysBounded,
    RangesTrue,
    LogEndsTrue,
    VotesByPresentEnd,
    VotersKept,
    VotersInForce,
    VotersAskedForLeader,
    DecreedLeaderNotBehind,
    DecreedLeaderAsked,
    LeadWithheldForCause,
    LeaderAppendOnly,
    LeaderCompleteness,
    LeaderElected,
    LeadsOnceElected,
    CheckQuorum,
    MajorityIsLed,
    LedVotersHoldOn,
    FoundedByAll,
    StandsWhenWanted,
    HandsOverWhole,
    LaterTermsEntered,
    HungDisksEndLeads,
    AnswersNamePresentTerm,
    FailedDisksEndLeads,
    LeadsEndForCause,
    RoundsSpread,
    RefusesForCause,
    OneChangeAtATime,
    AddedOnceCaughtUp,
    VotersStand,
    RemovedLeadersLeave,
    RemovedStayRemoved,
    ReplacedInTime,
    ExactlyOnce,
    NumberedWaitForCommit,
    ProducerMemoryTrue,
    RepairedEqual,
    RepairsCommittedOnly,
    RepairedInTime,
    ScrubFindsRot,
    AcknowledgedByAllSurvive,
    GenerationsFenced,
)

ALL: Final[dict[str, type[Checker]]] = {checker.name: checker for checker in _MINE}
"""Every checker by its name, in the order in which they see an event."""

__all__ = ["ALL", "Checker", "ClusterModel", "EventChecker", "default_checkers"]

_ONLY_ELECTED: Final = (
    FetchesAnsweredTruly,
    CommittedOnOwnDisk,
    ExactlyOnce,
    NumberedWaitForCommit,
    ProducerMemoryTrue,
    LatestReadsLinearizable,
    ReadsProved,
    LogMatching,
    CopiesKept,
    CommittedAgree,
    OneLeaderATerm,
    BallotsOnDisk,
    RetentionWaits,
    CommitSpreads,
    CommitToldSoon,
    FollowersCall,
    LostLeadersTold,
    TermsBegin,
    AppendsInTerm,
    CountsHonestly,
    InSyncWaitedFor,
    ReadYourWrites,
    SamePlaceSameBytes,
    KnownCommittedKept,
    DisputesAcknowledgeNothing,
    LogEndsTrue,
    VotesByPresentEnd,
    VotersKept,
    VotersInForce,
    VotersAskedForLeader,
    RepairedEqual,
    RepairsCommittedOnly,
    RepairedInTime,
)
_ONLY_DECREED: Final = (DecreedLeaderNotBehind, DecreedLeaderAsked, LeadWithheldForCause)
"""What there is to see only of a leader whom people name."""
_ONLY_LEAD_PASSED_ON: Final = (LeaderAppendOnly, LeaderCompleteness, HandOverHolds)
"""What there is to see only where the lead passes on from one node to another, and not because people say so."""
_ONLY_RAFT: Final = (
    LeaderElected,
    LeadsOnceElected,
    CheckQuorum,
    MajorityIsLed,
    LedVotersHoldOn,
    FoundedByAll,
    StandsWhenWanted,
    HandsOverWhole,
    LaterTermsEntered,
    HungDisksEndLeads,
    AnswersNamePresentTerm,
    FailedDisksEndLeads,
    LeadsEndForCause,
    RoundsSpread,
    RefusesForCause,
    OneChangeAtATime,
    AddedOnceCaughtUp,
    VotersStand,
    RemovedLeadersLeave,
    RemovedStayRemoved,
    ReplacedInTime,
)
"""What Raft promises, and not any election."""
_ONLY_PEERS: Final = (CopiesFaithful, CycleGrowth)
_ONLY_DECREES: Final = (AcknowledgedKeptAsDecreed, RivalDecreesNoticed)
_NO_DECREES: Final = (
    ExactlyOnce,
    NumberedWaitForCommit,
    ProducerMemoryTrue,
    AcknowledgedKept,
    Linearizable,
    LatestReadsLinearizable,
    LogMatching,
    CopiesKept,
    CommittedAgree,
    OneLeaderATerm,
    CommitSpreads,
    FollowersFollow,
)
"""What nobody can promise while people decree two leaders at once, or one without the data."""

_ONLY_DISASTERS: Final = (AcknowledgedByAllSurvive, GenerationsFenced)
_NO_DISASTERS: Final = (
    AcknowledgedKept,
    Linearizable,
    LatestReadsLinearizable,
    LogMatching,
    CopiesKept,
    CommittedAgree,
    OneLeaderATerm,
    SamePlaceSameBytes,
    LeaderCompleteness,
    FoundedByAll,
    MajorityIsLed,
    LeadsEndForCause,
    LaterTermsEntered,
    VotersAskedForLeader,
    OneChangeAtATime,
    ReplacedInTime,
)
"""What nobody can promise of a cluster that was recovered: a majority of its disks was lost, two generations make
entries of the same terms, its voters are replaced all at once, and whoever is superseded has no part in any election
any more."""


def default_checkers(options: Options) -> list[Checker]:
    """All checkers that can say something with these options, on one model that the first keeps up to date."""
    choice = options.election_choice()
    unneeded: tuple[type[EventChecker], ...]
    if not choice.elects:
        unneeded = (*_ONLY_ELECTED, *_ONLY_DECREES)
    else:
        unneeded = (*_ONLY_PEERS, *(_NO_DECREES if options.decrees_change else _ONLY_DECREES))
    if not choice.is_decreed:
        unneeded = (*unneeded, *_ONLY_DECREED)
    if not choice.elects or choice.is_decreed:
        unneeded = (*unneeded, *_ONLY_LEAD_PASSED_ON)
    if not options.is_vote_of_disk:
        unneeded = (*unneeded, *_ONLY_RAFT)
    unneeded = (*unneeded, *(_NO_DISASTERS if options.has_disaster else _ONLY_DISASTERS))
    model = ClusterModel()
    checkers: list[EventChecker] = [kind(model) for kind in _MINE if kind not in unneeded]
    for checker in checkers[1:]:
        checker.drives = False
    return list(checkers)
