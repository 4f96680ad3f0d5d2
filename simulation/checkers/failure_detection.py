"""Failure detection: a dead node is declared failed within a bound, and a healthy one is not.

The bounds follow from the clocks in GossipConfig, for n nodes:

- Everybody is pinged once a round, so at worst it is 2(n-1) probe intervals until somebody who has
  just been pinged is pinged again, one more for every member that joined meanwhile, since those are
  put into the running round. A probe lasts one interval, a suspicion `suspicion_s`.
- A node that suspects a member asks it every interval, as many as four at once. So in a cluster of five, of
  two healthy nodes with clean links, the one that suspects the other learns better within two
  intervals, plus one for what happens at their edges.
- A member whose links to another are cut is asked for it by up to `indirect_probes` others.
- Tables are compared every full_exchange_interval_s, give or take a fifth, with one of those that failed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from ourolog.actors.config import GossipConfig
from ourolog.actors.gossip.leaving import LEAVE_FANOUT
from ourolog.actors.gossip.table import suspicion_s
from ourolog.actors.messages.events import MemberFailed, MemberJoined, MemberLeft
from ourolog.actors.messages.membership import DatagramReceived, LeaveCluster, ProbeDue
from ourolog.actors.messages.values import Member
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.gossip_view import GossipView, Holding, NodeView
from ourolog.simulation.checkers.model import ClusterModel
from ourolog.simulation.events import Event, MessageTold, NodeSaid, NodeStarted
from ourolog.storage.types import NodeId

CLOCKS_DIFFER: Final = 1.06
"""Clocks run up to five percent fast or slow, and timers with them."""

SLACK_S: Final = 0.3
IN_FLIGHT_S: Final = 20.0
"""How long after a node fell silent its packets may still arrive: links clog for 8.2 s, and relays pause."""

TIMEOUTS_TO_DENY: Final = 3
SPREADS_WITHIN_S: Final = 1.75
SPREAD_FROM_NODES: Final = 7
SPREAD_TO_NODES: Final = 4
LOOK_EVERY_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class _Spreading:
    """`viewer` declared `name` failed while all was well: by due_s half of `holders` must have, too."""

    name: NodeId
    declared_s: float
    due_s: float
    viewer: NodeId
    holders: tuple[NodeId, ...]


class FailureDetection(EventChecker):
    """Checks every verdict when it is announced, and several times a second those that are overdue."""

    name: ClassVar[str] = "failure_detection"
    statement: ClassVar[str] = (
        "Whoever is down, stands still or is cut off is declared failed within a bound by all who are well; whoever "
        "is well and connected, directly or by way of another, is not, and has its whole time to refute; who "
        "announces that it leaves has left; who is announced was heard; members return within a bound after healing; "
        "a failure that one declares is known to half of the others within two seconds, unless more are out of reach."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.view = GossipView()
        self._declared: set[tuple[NodeId, int]] = set()
        self._spreading: list[_Spreading] = []
        self._next_look_s = 0.0
        self.on = dict.fromkeys(self.view.handlers, self._take) | {NodeSaid: self._on_said}
        self.on_told = {
            LeaveCluster: self.view.on_leave,
            DatagramReceived: self._on_datagram,
            ProbeDue: lambda _: self._look_now_and_then(),
        }
        self._heard: set[tuple[str, NodeId]] = set()

    def _take(self, event: Event) -> None:
        self._look_now_and_then()
        if isinstance(event, NodeStarted):
            self._heard = {(addr, viewer) for addr, viewer in self._heard if viewer != event.node_id}
        self.view.handlers[type(event)](event)

    def _on_datagram(self, told: MessageTold) -> None:
        received = told.message
        assert isinstance(received, DatagramReceived)
        self._heard.add((received.source_addr, self.model.place(told.receiver)[0]))

    # ------------------------------------------------------------ bounds

    def _bound_s(self, clocks: GossipConfig) -> float:
        count = len(self.view.nodes)
        probes_s = (2 * (count - 1) + 1) * clocks.probe_interval_s
        return (probes_s + suspicion_s(clocks.suspicion_s, count)) * CLOCKS_DIFFER + SLACK_S

    def _well_s(self, clocks: GossipConfig) -> float:
        """How long two nodes must have been healthy, with clean links, for one not to declare the other failed."""
        if len(self.view.nodes) <= 5:
            return 3 * clocks.probe_interval_s
        return clocks.suspicion_s

    def _returns_s(self, clocks: GossipConfig) -> float:
        return 2 * 1.2 * clocks.full_exchange_interval_s * CLOCKS_DIFFER + 2.0

    # ------------------------------------------------------------ verdicts

    def _on_said(self, event: NodeSaid) -> None:
        match event.event:
            case MemberJoined(member):
                if (member.gossip_addr, event.node_id) not in self._heard:
                    raise self.violated(f"{event.node_id} announces {member.node_id}, and has never heard it")
            case MemberFailed(member):
                holding = self.view.nodes[event.node_id].holds.get(member.node_id)
                if holding is not None:
                    self._check_failed(event.node_id, member, holding)
                self._note_failed(event.node_id, member)
            case MemberLeft(member):
                left = self.view.nodes.get(member.node_id)
                if left is None or left.left_s is None:
                    raise self.violated(f"{event.node_id} says that {member.node_id} has left, which it never did")
            case _:
                pass
        self.view.handlers[NodeSaid](event)

    def _check_failed(self, viewer: NodeId, member: Member, holding: Holding) -> None:
        name, view, now_s = member.node_id, self.view, self.time_s
        if holding.is_contested or name not in view.nodes:
            return
        clocks = view.nodes[viewer].config.gossip
        is_first = (name, member.incarnation) not in self._declared
        least_s = clocks.suspicion_s if is_first else TIMEOUTS_TO_DENY * clocks.probe_timeout_s
        if holding.suspected_s is None:
            raise self.violated(f"{viewer} declares {name} failed and has not suspected it before")
        if now_s - holding.suspected_s < least_s / CLOCKS_DIFFER:
            raise self.violated(
                f"{viewer} declares {name} failed {now_s - holding.suspected_s:.3f} s after it began to suspect it, "
                f"and {name} had {least_s:g} s to refute"
            )
        well_s = now_s - max(view.well_since(viewer, name), view.clean_since(viewer, name))
        if well_s >= self._well_s(clocks):
            raise self.violated(
                f"{viewer} declares {name} failed: both are well and the links between them clean for {well_s:.3f} s"
            )
        relay = self._relay(viewer, name, holding.suspected_s - 2 * clocks.probe_interval_s * CLOCKS_DIFFER)
        if relay is not None:
            raise self.violated(f"{viewer} declares {name} failed, and {relay} is connected to both")
        self._check_left_known(viewer, name, view.nodes[name], self._well_s(clocks))

    def _relay(self, viewer: NodeId, name: NodeId, before_s: float) -> NodeId | None:
        """A node that could have vouched for it since that time, where everybody is asked, all of them healthy."""
        view = self.view
        others = [node_id for node_id in view.nodes if node_id not in (viewer, name)]
        if len(others) > view.nodes[viewer].config.gossip.indirect_probes:
            return None
        if max(view.well_since(*view.nodes), view.undisturbed_since()) > before_s:
            return None  # another node may have had reason to suspect it
        for node in view.nodes.values():
            holding = node.holds.get(name)
            if holding is not None and holding.suspected_s is not None and holding.suspected_s < before_s:
                return None  # it was under suspicion already, and may not learn of that in time to refute it
        for relay in others:
            knows = viewer in view.nodes[relay].holds and name in view.nodes[relay].holds
            knows = knows and relay in view.nodes[viewer].holds and relay in view.nodes[name].holds
            if knows and max(view.clean_since(viewer, relay), view.clean_since(relay, name)) <= before_s:
                return relay
        return None

    def _check_left_known(self, viewer: NodeId, name: NodeId, left: NodeView, well_s: float) -> None:
        if left.is_up or left.left_s is None or viewer not in left.left_to or len(left.left_to) > LEAVE_FANOUT:
            return
        clean_s = max(self.view.well_since(viewer), self.view.clean_since(viewer, name), left.left_well_s)
        if clean_s <= left.left_s - well_s:
            raise self.violated(f"{viewer} declares {name} failed, which has announced to it that it leaves")

    def _note_failed(self, viewer: NodeId, member: Member) -> None:
        name, view, now_s = member.node_id, self.view, self.time_s
        key = name, member.incarnation
        if key in self._declared:
            return
        self._declared.add(key)
        if len(view.nodes) < SPREAD_FROM_NODES or self._is_another_lost(viewer, name):
            return
        holders = [
            node_id
            for node_id, node in view.nodes.items()
            if name in node.holds and node_id != viewer and view.clean_since(viewer, node_id) <= now_s
        ]
        calm_s = view.nodes[viewer].config.gossip.suspicion_s + SPREADS_WITHIN_S / 2
        if len(holders) >= SPREAD_TO_NODES and view.all_clean_since((viewer, *holders)) <= now_s - calm_s:
            self._spreading.append(_Spreading(name, now_s, now_s + SPREADS_WITHIN_S, viewer, tuple(holders)))

    def _is_another_lost(self, viewer: NodeId, name: NodeId) -> bool:
        """Whether the viewer may tell the news in vain, as often as it tells it, to others that are out of reach."""
        view = self.view
        return any(
            view.clean_since(viewer, other) > self.time_s or not (other in view.nodes and view.nodes[other].is_up)
            for other in view.nodes[viewer].holds
            if other != name
        )

    # ------------------------------------------------------------ what is overdue

    def _look_now_and_then(self) -> None:
        if self.time_s >= self._next_look_s:
            self._next_look_s = self.time_s + LOOK_EVERY_S
            self._look()

    def _look(self) -> None:
        view, now_s = self.view, self.time_s
        all_clean_s = view.all_clean_since()
        for viewer, node in view.nodes.items():
            if node.well_from_s > now_s:
                continue
            bound_s = self._bound_s(node.config.gossip)
            for name in view.nodes:
                if name == viewer:
                    continue
                holding = node.holds.get(name)
                if holding is not None:
                    self._check_overdue(viewer, node, name, holding, bound_s)
                elif now_s - all_clean_s > self._returns_s(node.config.gossip) and view.nodes[name].is_up:
                    raise self.violated(
                        f"{viewer} does not count {name} as a member, {now_s - all_clean_s:.1f} s after all was well"
                    )
        self._check_spread()

    def _check_overdue(self, viewer: NodeId, node: NodeView, name: NodeId, holding: Holding, bound_s: float) -> None:
        silent_s = self.view.silent_since(viewer, name)
        if silent_s + bound_s > self.time_s:
            return
        refuted_s = min(holding.refuted_s, silent_s + IN_FLIGHT_S)
        since_s = max(silent_s, node.well_from_s, holding.since_s, refuted_s)
        joins = sum(joined_s >= since_s for joined_s in node.joins_s)
        due_s = since_s + bound_s + joins * node.config.gossip.probe_interval_s * CLOCKS_DIFFER
        if self.time_s > due_s:
            raise self.violated(
                f"{viewer} still counts {name} as a member, from which it can have heard nothing since "
                f"{silent_s:.3f} s: the bound was {bound_s:.2f} s"
            )

    def _check_spread(self) -> None:
        view = self.view
        for news in [news for news in self._spreading if news.due_s <= self.time_s]:
            self._spreading.remove(news)
            behind = [holder for holder in news.holders if news.name in view.nodes[holder].holds]
            is_silent = all(view.silent_since(holder, news.name) < news.declared_s for holder in news.holders)
            is_calm = view.all_clean_since((news.viewer, *news.holders)) < news.declared_s
            if is_silent and is_calm and len(behind) * 2 > len(news.holders):
                raise self.violated(
                    f"{news.viewer} declared {news.name} failed at {news.declared_s:.3f} s, and {', '.join(behind)} "
                    "have not heard of it"
                )
