"""To which cluster and generation the disk of a node belongs: one that it founds, joins, or is left out of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ourolog.actors.config import NodeConfig
from ourolog.actors.election.claims import Claims
from ourolog.actors.election.raft.electorate import Electorate
from ourolog.actors.election.raft.founding import FoundingTalks
from ourolog.actors.election.raft.generations import Rivals, superseded_by
from ourolog.actors.messages.election import ElectionMessage, ElectionTimerDue
from ourolog.actors.messages.events import LogOpened
from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.peer_calls import CallAnswer, CallFailed, CallReceived, CallRefused, CallReturned
from ourolog.actors.messages.store import FoundingSaved, SaveSuperseded, StoreMessage
from ourolog.actors.messages.values import Member
from ourolog.actors.ports import Ports
from ourolog.storage.control import VoterKey
from ourolog.storage.founding import Founding
from ourolog.storage.types import NodeId


class ClusterIdentity:
    """What the disk of one node belongs to, from the founding talks to the next generation.

    superseded: why this node has no part in any election any more, as a sentence; "" while it has.
    """

    def __init__(
        self,
        config: NodeConfig,
        ports: Ports,
        store: Mailbox[StoreMessage],
        me: Mailbox[ElectionMessage],
        next_id: Callable[[], int],
        *,
        electorate: Electorate,
        claims: Claims,
        on_known: Callable[[Founding | None], None],
        on_progress: Callable[[str], None],
        on_joined: Callable[[Founding], None],
    ) -> None:
        """Prepare for a node whose log is not open.

        claims: what the members claim in their gossip.
        on_known: told once which cluster it is, or that it is the first one that this node hears of (None).
        on_progress: told what the founding waits for, as a sentence, whenever that changes.
        on_joined: told once where that was not known, when it is, and is on disk.
        """
        self.superseded = ""
        self._config = config
        self._node_id = config.node_id
        self._ports = ports
        self._store = store
        self._me = me
        self._next_id = next_id
        self._electorate = electorate
        self._claims = claims
        self._on_known = on_known
        self._on_progress = on_progress
        self._on_joined = on_joined
        self._founders: FoundingTalks | None = None
        self._rivals = Rivals()

    # ------------------------------------------------------------ founding

    def open(self, opened: LogOpened) -> None:
        """Begin with what is on disk; `why_not_ours` has found nothing."""
        self._founders = FoundingTalks(
            self._config,
            VoterKey(self._node_id, opened.log_epoch),
            self._ports,
            self._store,
            self._me,
            self._next_id,
            on_founded=self._on_known,
            on_standby=lambda: self._on_known(opened.founding),
            on_progress=self._on_progress,
            on_joined=self._on_joined,
        )
        self._founders.open(opened)
        for member in self._electorate.members:  # gossip may have been faster than the disk
            self._founders.met(member)

    @property
    def promise(self) -> Founding | None:
        """What the disk has promised, also before the cluster is founded."""
        return self._electorate.founding or (self._founders.promise if self._founders is not None else None)

    def met(self, member: Member) -> None:
        if self._founders is not None:
            self._founders.met(member)

    def on_asked(self, received: CallReceived[Any]) -> None:
        """Another founder asks."""
        if self._founders is not None:
            self._founders.on_asked(received)
        else:
            refused = CallRefused(f"{self._node_id} is starting")
            received.reply_to.tell(CallAnswer(received.request_id, refused))

    def on_returned(self, returned: CallReturned[Any]) -> None:
        if self._founders is not None:
            self._founders.on_returned(returned)

    def on_failed(self, failed: CallFailed) -> None:
        if self._founders is not None:
            self._founders.on_failed(failed)

    def on_due(self, due: ElectionTimerDue) -> None:
        if self._founders is not None:
            self._founders.on_due(due)

    def on_saved(self, saved: FoundingSaved) -> None:
        if self._founders is not None:
            self._founders.on_saved(saved)

    def proved(self, cluster_id: int) -> None:
        """Another founder takes part in elections of that cluster."""
        if self._founders is not None:
            self._founders.proved(cluster_id)

    # ------------------------------------------------------------ joining

    def heard_of(self, cluster_id: int) -> bool:
        """Whether that is this node's own cluster, of which another node speaks.

        A node that joins takes the first cluster that it hears of for its own, and puts that on disk first.
        """
        founding = self._electorate.founding
        if founding is not None:
            return cluster_id == founding.cluster_id
        if cluster_id:
            self._join(cluster_id)
        return False

    def _join(self, cluster_id: int) -> None:
        assert self._founders is not None
        # Which generation of its cluster that is, its members say in their gossip. Until that has come this node
        # belongs to none: a disk that took it for the first one would not know the next one for its own.
        claim = next((claim for _, claim in self._claims.all() if claim.cluster_id == cluster_id), None)
        if claim is not None:
            self._founders.join(Founding(cluster_id, generation=claim.generation, origin_id=claim.origin_id))

    # ------------------------------------------------------------ generations

    def why_superseded(self) -> str:
        """Why this node's generation is over, as a sentence, by what members claim; "" if it is not.

        They may have claimed it before this node knew its own.
        """
        founding = self._electorate.founding
        if founding is None:
            return ""
        for peer_id, claim in self._claims.all():
            self._rivals.heed(founding, peer_id, claim)
            superseded = superseded_by(founding, peer_id, claim)
            if superseded is not None:
                self._store.tell(SaveSuperseded(superseded))
                return superseded.why(self._node_id, founding.generation)
        return ""

    def dispute(self) -> str:
        """Why nothing may be acknowledged besides contradicting claims, as a sentence; "" if nothing forbids it."""
        founding = self._electorate.founding
        return self._rivals.dispute(self._node_id, founding) if founding is not None else ""

    def left(self, node_id: NodeId) -> None:
        """That member has left in good order."""
        self._rivals.left(node_id)

    def end(self, why: str) -> None:
        """Another generation has taken over."""
        self.superseded = why
        if self._founders is not None:
            self._founders.stop()
