"""The operator, who repairs: restarts nodes that ended, makes room on full disks, restores and replaces disks.

It acts as a person would who reads what the nodes report, and who knows that a node does not give up
without a reason.
"""

from __future__ import annotations

from math import inf
from random import Random
from typing import Final

from ourolog.actors.node import FAILED_HANDS_OVER_WITHIN_S
from ourolog.simulation.budget import FaultBudget
from ourolog.simulation.cluster import Cluster, ProcessEnd
from ourolog.simulation.disks.rot import Rot
from ourolog.simulation.events import DiskRestored
from ourolog.simulation.links import REPLAY_WITHIN_S, links_between
from ourolog.simulation.run_claims import NO_NODE_FAILS_WITHOUT_A_CAUSE
from ourolog.storage.segment import LOG_SUFFIX
from ourolog.storage.types import NodeId

READ_IS_REPORTED_S: Final = 1.0
"""A node that has met damage has said so by then. It ends once its lead, if it has one, is handed over."""

ROT_IS_LOOKED_AT_EVERY_S: Final = 0.5

DISK_ARRIVES_S: Final = REPLAY_WITHIN_S + 1.0
"""By then nothing that the node sent with the lost disk is under way any more."""


class Operator:
    """The person who restarts nodes and repairs their disks; `blame` tells it what was done to a node's disk.

    rng: draws how long it takes before it acts.
    """

    def __init__(self, cluster: Cluster, budget: FaultBudget, rng: Random) -> None:
        self.budget = budget
        self._cluster = cluster
        self._rng = rng
        self._down: dict[NodeId, None] = {}
        self._blamed: dict[NodeId, str] = {}
        self._rot: dict[NodeId, Rot] = {}
        self._rot_over_s: dict[NodeId, float] = {}
        self._off_limits: tuple[NodeId, ...] = ()
        cluster.on_process_end = self._process_ended

    def wait_s(self, at_most_s: float) -> float:
        """How long something takes: usually not long."""
        return 0.05 + at_most_s * self._rng.random() ** 2

    # ------------------------------------------------------------ mending

    def mend(self, core: tuple[NodeId, ...]) -> None:
        """Make these nodes healthy and connected to each other, and leave the others as broken as they are."""
        cluster = self._cluster
        self._off_limits = tuple(node_id for node_id in cluster.configs if node_id not in core)
        cluster.network.links.heal()
        cluster.heal()
        if self._off_limits:
            cluster.block("groups", links_between([core, self._off_limits]))
        for node_id in core:
            self._heal_node(node_id)
            self.start(node_id)

    def mend_all(self) -> None:
        """End all faults, everywhere."""
        self._off_limits = ()
        self._cluster.network.links.heal()
        self._cluster.heal()
        for node_id in self._cluster.configs:
            self._heal_node(node_id)
            self.start(node_id)

    def _heal_node(self, node_id: NodeId) -> None:
        cluster = self._cluster
        cluster.resume(node_id)
        cluster.runtime.set_slowness(node_id, None)
        cluster.clocks[node_id].set_rate(1.0)
        self.end_lies(node_id)
        cluster.disks[node_id].repair()
        self.restore(node_id)

    def may_touch(self, node_id: NodeId) -> bool:
        """Whether the operator may repair the node; some are left broken on purpose."""
        return node_id not in self._off_limits

    def leave_alone(self, node_ids: tuple[NodeId, ...]) -> None:
        """Neither start nor repair these nodes, until all faults end: somebody else looks after them."""
        self._off_limits = node_ids

    # ------------------------------------------------------------ processes

    def start(self, node_id: NodeId) -> None:
        """Start the node if it is down."""
        if node_id not in self._cluster.running and self.may_touch(node_id):
            self._down.pop(node_id, None)
            self._cluster.launch(node_id)

    def start_later(self, node_id: NodeId, at_most_s: float) -> None:
        self._down[node_id] = None
        self._cluster.after(self.wait_s(at_most_s), lambda: self.start(node_id))

    def bring_down(self, node_id: NodeId, *, power: bool) -> None:
        """Crash the node, and start it again later."""
        if power:
            self._lost_power(node_id)
        self._cluster.crash(node_id, power=power)
        self.start_later(node_id, 10.0)

    def start_when_stopped(self, node_id: NodeId) -> None:
        """Start the node again once its orderly stop is complete."""

        def due() -> None:
            if node_id in self._cluster.stopping:
                self.start_when_stopped(node_id)
            elif node_id not in self._down:
                self.start(node_id)

        self._cluster.after(0.5 + self.wait_s(5.0), due)

    def blame(self, node_id: NodeId, kind: str) -> None:
        """Note that the node's disk may fail from now on."""
        self._blamed[node_id] = kind

    def _process_ended(self, node_id: NodeId, how: ProcessEnd, reason: str) -> None:
        """Handle a process that ended by itself: find the cause, repair it, and start the node again."""
        cluster = self._cluster
        if how is ProcessEnd.POWER_LOSS:
            self._lost_power(node_id)
            self.start_later(node_id, 5.0)
            return
        has_cause = self._blamed.pop(node_id, None) is not None or node_id in self.budget.spoiled
        if not has_cause and not self._has_just_been_restored(node_id):
            detail = f"{node_id} gave up though nothing was wrong with its disk: {reason}"
            cluster.violated(NO_NODE_FAILS_WITHOUT_A_CAUSE.violated(detail, cluster.now_s))
            return
        self.end_lies(node_id)
        cluster.disks[node_id].repair()
        if node_id in self._rot:
            self._down[node_id] = None
            cluster.after(self.wait_s(5.0), lambda: self._restore_and_start(node_id))
        elif self.budget.is_lost(node_id):
            self.replace_disk(node_id)
        else:
            self.start_later(node_id, 5.0)

    # ------------------------------------------------------------ disks

    def replace_disk(self, node_id: NodeId) -> None:
        """Replace the disk of a node that is down with a new, empty one."""
        self._rot.pop(node_id, None)
        self.budget.spoil("disk_lost", node_id)
        self._cluster.disks[node_id].repair()
        self._cluster.wipe(node_id)
        self._start_with_new_disk(node_id)

    def put_back(self, node_id: NodeId, backup: dict[str, bytes]) -> None:
        """Replace the disk of a node that is down with a copy from some time ago."""
        self._rot.pop(node_id, None)
        self.budget.spoil("old_disk", node_id)
        self._cluster.disks[node_id].repair()
        self._cluster.disks[node_id].load(backup)
        self._start_with_new_disk(node_id)

    def _start_with_new_disk(self, node_id: NodeId) -> None:
        self._down[node_id] = None
        self._cluster.after(DISK_ARRIVES_S + self.wait_s(5.0), lambda: self.start(node_id))

    def note_rot(self, node_id: NodeId, rot: Rot) -> None:
        """Note what rotted; after some time somebody will notice it and restore the file.

        Where other replicas have what is in it, the node has the time to repair it by itself.
        """
        self._rot[node_id] = rot
        self.budget.spoil("bit_rot", node_id)
        repairs = self._cluster.configs[node_id].election.elects and rot.path.endswith(LOG_SUFFIX)
        self._cluster.after(2.0 + self.wait_s(26.0 if repairs else 15.0), lambda: self._restore_rot(node_id, rot))
        if repairs:
            self._watch_rot(node_id, rot)

    def _restore_rot(self, node_id: NodeId, rot: Rot) -> None:
        if self._rot.get(node_id) is rot:
            self.restore(node_id)

    def _watch_rot(self, node_id: NodeId, rot: Rot) -> None:
        """Look again and again until the node has repaired it by itself."""
        if self._rot.get(node_id) is not rot:
            return
        if rot.is_over(self._cluster.disks[node_id]):
            self._rot_is_over(node_id)
        else:
            self._cluster.after(ROT_IS_LOOKED_AT_EVERY_S, lambda: self._watch_rot(node_id, rot))

    def is_rotten(self, node_id: NodeId) -> bool:
        return node_id in self._rot

    def restore(self, node_id: NodeId) -> None:
        """Restore the damaged file from the backup, once the disk answers and what was read of it has been reported."""
        hangs_s = self._cluster.disks[node_id].hangs_until_s - self._cluster.now_s
        if hangs_s > 0:
            self._cluster.after(hangs_s + READ_IS_REPORTED_S, lambda: self.restore(node_id))
            return
        rot = self._rot.get(node_id)
        if rot is not None:
            rot.undo(self._cluster.disks[node_id])
            self._rot_is_over(node_id)

    def _rot_is_over(self, node_id: NodeId) -> None:
        del self._rot[node_id]
        self._rot_over_s[node_id] = self._cluster.now_s
        self._restored(node_id, "bit_rot")
        if self.budget.spoiled.get(node_id) == "bit_rot":
            self.budget.restore(node_id)

    def _has_just_been_restored(self, node_id: NodeId) -> bool:
        """Whether a node that ends now may have read of its disk what rotted there, before the file was restored."""
        over_s = self._rot_over_s.get(node_id, -inf)
        return self._cluster.now_s <= over_s + READ_IS_REPORTED_S + FAILED_HANDS_OVER_WITHIN_S

    def _restore_and_start(self, node_id: NodeId) -> None:
        self.restore(node_id)
        self.start(node_id)

    def end_lies(self, node_id: NodeId) -> None:
        """Let the disk write what it had only claimed to have written."""
        disk = self._cluster.disks[node_id]
        if disk.faults.lies:
            disk.faults.lies = False
            disk.write_back()
            if self.budget.spoiled.get(node_id) == "fsync_lies":
                self.budget.restore(node_id)
                self._restored(node_id, "fsync_lies")

    def _restored(self, node_id: NodeId, kind: str) -> None:
        self._cluster.emit(DiskRestored(self._cluster.now_s, node_id, kind))

    def _lost_power(self, node_id: NodeId) -> None:
        """Treat whatever a lying disk had promised as lost; from here on the disk is honest.

        Otherwise it could count as whole again, go on lying, and lose a ballot while another voter is spoiled.
        """
        self._cluster.disks[node_id].faults.lies = False
        if self.budget.spoiled.get(node_id) == "fsync_lies":
            self.budget.spoil("lost_to_lies", node_id)
