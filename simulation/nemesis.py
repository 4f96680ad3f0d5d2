"""The nemesis, which injects faults: each kind that is on happens at random times and is undone later."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Final, Self

from ourolog.simulation.budget import FaultBudget
from ourolog.simulation.cluster import Cluster
from ourolog.simulation.disks.image import identity_on
from ourolog.simulation.disks.rot import Rot
from ourolog.simulation.events import ClientInvoked, Event, FaultInjected
from ourolog.simulation.links import Chances, Link, links_between, ring
from ourolog.simulation.operator import Operator
from ourolog.simulation.plan import Plan, draw_plan
from ourolog.storage.segment import LOG_SUFFIX
from ourolog.storage.types import NodeId

ROTS_TWICE: Final = 0.4
"""How often, where voters elect, the same batch rots on two disks at once."""
ROTS_ALONE: Final = 0.5
"""How often, of segments that retention has removed everywhere else, one rots rather than another file."""
ROTS_OFTEN: Final = 3.0
"""How much more often than other faults disks rot where nodes repair that: it is over soon, and hides no other."""
ROTS_CUT_OFF_SHARE: Final = 0.5
ROTS_CUT_OFF_WITHIN_S: Final = 2.0
"""Of the partitions where voters elect and disks rot, how many leave a leader with one other node that is no majority
with it, and how soon after the end of one of the two logs rots: both have what is not committed."""
REVIEW_INTERVAL_S: Final = 2.0
OFTEN: Final = 4.0
"""How much more often than other faults people change the voters: most of what they ask for is refused."""
CAUGHT_SHARE: Final = 0.5
CAUGHT_WITHIN_S: Final = 0.003
"""Of the leaders that are killed, where voters elect, how many so soon after a numbered batch was sent to them."""
CAUGHT_AT_CHANGE_SHARE: Final = 0.15
"""How many of the nodes that people ask for other voters are killed as soon, where nodes are killed at all."""
SPARED_S: Final = 2.0
"""For how long they are spared until that is so."""
BEFALLS_LEADER: Final = 0.3
"""How often a fault is aimed at the leader, where voters elect it."""


class Nemesis:
    """Injects faults, all drawn from its own random stream; `operator` repairs what they did.

    `start` it, `stop` it, and let `operator.mend_all` undo what is left.
    """

    def __init__(self, cluster: Cluster, plan: Plan) -> None:
        self.budget = FaultBudget(cluster)
        self.operator = Operator(cluster, self.budget, cluster.chance("operator"))
        self._cluster = cluster
        self._plan = plan
        self._rng: Random = cluster.chance("faults")
        self._voters_rng: Random = cluster.chance("faults/voters")
        self._is_on = True
        self._shapes: Random = cluster.chance("rot")
        self._often = {"voters": OFTEN, "bit_rot": ROTS_OFTEN if cluster.options.election_choice().elects else 1.0}
        self._backups: dict[NodeId, dict[str, bytes]] = {}
        self._moments: Random = cluster.chance("faults/moments")
        self._to_be_caught: NodeId | None = None
        self._do: dict[str, Callable[[], None]] = {
            "slow_link": self._slow_link,
            "clog": self._clog,
            "partition": self._partition,
            "gossip_lost": self._gossip_lost,
            "kill": self._kill,
            "power_loss": self._power_loss,
            "blackout": self._blackout,
            "stop": self._stop,
            "transfer": self._transfer,
            "voters": self._voters,
            "pause": self._pause,
            "slow_node": self._slow_node,
            "clock_drift": self._clock_drift,
            "clock_jump": self._clock_jump,
            "slow_disk": self._slow_disk,
            "disk_hangs": self._disk_hangs,
            "disk_full": self._disk_full,
            "io_error": self._io_error,
            "fsync_fails": self._fsync_fails,
            "fsync_lies": self._fsync_lies,
            "bit_rot": self._bit_rot,
            "disk_lost": self._disk_lost,
            "old_disk": self._old_disk,
        }

    @classmethod
    def unleash(cls, cluster: Cluster, *kinds: str) -> Self:
        """Start these kinds of fault on a cluster (with no names, those that its seed draws). Raises ValueError."""
        nemesis = cls(cluster, draw_plan(replace(cluster.options, faults=kinds or None)))
        nemesis.start()
        return nemesis

    # ------------------------------------------------------------ on and off

    def start(self) -> None:
        """Let every kind of the plan happen at random times from now on."""
        plan = self._plan
        self._cluster.network.links.chances = Chances(
            loss=0.15 * plan.strength("loss"),
            duplicate=0.3 * plan.strength("duplicate"),
            replay=0.3 * plan.strength("replay"),
            reply_lost=0.2 * plan.strength("reply_lost"),
            stream_cut=0.2 * plan.strength("stream_cut"),
        )
        for kind in plan.kinds:
            if kind in self._do:
                self._again(kind)
        if "kill" in plan.kinds and self._cluster.is_vote_of_disk:
            self._cluster.subscribe(self._on_event)
        self._review()

    def stop(self) -> None:
        """Inject no new faults. What is broken stays broken until it is mended."""
        self._is_on = False

    def _again(self, kind: str) -> None:
        rng = self._voters_rng if kind == "voters" else self._rng
        wait_s = rng.expovariate(self._often.get(kind, 1.0) / self._plan.interval_s[kind])

        def due() -> None:
            if self._is_on:
                self._do[kind]()
                self._again(kind)

        self._cluster.after(wait_s, due)

    def _review(self) -> None:
        if self._is_on:
            self.budget.review()
            self._cluster.after(REVIEW_INTERVAL_S, self._review)

    # ------------------------------------------------------------ choosing

    def _any_running(self) -> NodeId | None:
        if (leader_id := self._leader_at_times()) is not None:
            return leader_id
        running = [node_id for node_id in self._cluster.configs if node_id in self._cluster.running]
        return self._rng.choice(running) if running else None

    def _leader_at_times(self) -> NodeId | None:
        """Where voters elect, more often the leader than others: only what befalls a leader brings about elections."""
        cluster = self._cluster
        if not cluster.is_vote_of_disk or self._rng.random() >= BEFALLS_LEADER:
            return None
        return cluster.leader_id if cluster.leader_id in cluster.running else None

    def _any_link(self) -> Link | None:
        names = list(self._cluster.configs)
        if len(names) < 2:
            return None
        source, target = self._rng.sample(names, 2)
        return source, target

    def _fired(self, kind: str, where: str, detail: str = "", *, until_s: float = 0.0) -> None:
        self._cluster.emit(FaultInjected(self._cluster.now_s, kind, where, detail, until_s=until_s))

    # ------------------------------------------------------------ network

    def _slow_link(self) -> None:
        link = self._any_link()
        if link is not None:
            extra_s = 0.5 * self._rng.random() * self._plan.strength("slow_link")
            links = self._cluster.network.links
            links.slow_down(link, extra_s)
            self._fired("slow_link", f"{link[0]}>{link[1]}", f"{extra_s * 1000:.0f} ms")
            self._cluster.after(2.0 + self.operator.wait_s(15.0), lambda: links.slow_down(link, 0.0))

    def _clog(self) -> None:
        link = self._any_link()
        if link is not None:
            until_s = self._cluster.now_s + 0.2 + 8.0 * self._rng.random() ** 2
            self._cluster.network.links.clog(link, until_s)
            self._fired("clog", f"{link[0]}>{link[1]}", f"until {until_s:.3f}", until_s=until_s)

    def _partition(self) -> None:
        cluster = self._cluster
        names = list(cluster.configs)
        if cluster.network.links.blocked or len(names) < 2:
            return
        shape = self._rng.choice(("halves", "isolate", "one-way", "ring"))
        self._rng.shuffle(names)
        if (leader_id := self._leader_at_times()) is not None:
            names.sort(key=lambda name: name != leader_id)
        pair = self._leader_and_witness()
        match shape:
            case _ if pair:
                shape = "pair"
                links = links_between([pair, [name for name in names if name not in pair]])
                at_s = ROTS_CUT_OFF_WITHIN_S * self._moments.random()
                cluster.after(at_s, lambda: self._rot_at_end(self._moments.choice(pair)))
            case "halves":
                cut = self._rng.randrange(1, len(names))
                links = links_between([names[:cut], names[cut:]])
            case "isolate":
                links = links_between([names[:1], names[1:]])
            case "one-way":
                links = links_between([names[:1], names[1:]])
                links = tuple(link for link in links if link[0] == names[0])
            case _:
                links = ring(names)
        if not links:
            return
        cluster.block(shape, links)
        self._fired("partition", "network", shape)
        self._cluster.after(0.5 + self.operator.wait_s(20.0), lambda: cluster.heal() if self._is_on else None)

    def _leader_and_witness(self) -> list[NodeId]:
        """Whom to cut off together, at times; else nobody."""
        leader_id, voters = self._cluster.leader_id, self._cluster.sets.voters
        is_wanted = "bit_rot" in self._plan.kinds and self._cluster.is_vote_of_disk
        if not is_wanted or leader_id is None or self._moments.random() >= ROTS_CUT_OFF_SHARE:
            return []
        pairs = [[leader_id, other] for other in self._cluster.configs if other != leader_id]
        pairs = [pair for pair in pairs if 2 * len(set(voters).intersection(pair)) <= len(voters)]
        return self._moments.choice(pairs) if pairs else []

    def _gossip_lost(self) -> None:
        cluster = self._cluster
        links = cluster.network.links
        node_id = self._any_running()
        if node_id is None or links.is_any_blocked or not cluster.is_vote_of_disk:
            return
        self._fired("gossip_lost", node_id)
        cluster.filter_datagrams(node_id)

        def end() -> None:
            if self._is_on and not links.blocked:
                cluster.heal()

        cluster.after(5.0 + self.operator.wait_s(60.0), end)

    # ------------------------------------------------------------ processes

    def _kill(self) -> None:
        cluster = self._cluster
        node_id = self._any_running()
        if node_id is None:
            return
        is_leader = cluster.is_vote_of_disk and node_id == cluster.leader_id
        if is_leader and self._moments.random() < CAUGHT_SHARE:
            self._to_be_caught = node_id
            cluster.after(SPARED_S, lambda: self._catch(node_id))
        else:
            self._kill_now(node_id)

    def _kill_now(self, node_id: NodeId) -> None:
        self._fired("kill", node_id)
        self.operator.bring_down(node_id, power=False)

    def _on_event(self, event: Event) -> None:
        """Kill who is to be caught soon after it was sent a numbered batch: others have that by then, or not."""
        if type(event) is not ClientInvoked or event.node_id != self._to_be_caught:
            return
        if event.operation.producer_id:
            self._catch_soon(event.node_id)

    def _catch_soon(self, node_id: NodeId) -> None:
        self._cluster.after(CAUGHT_WITHIN_S * self._moments.random(), lambda: self._catch(node_id))

    def _catch(self, node_id: NodeId) -> None:
        if self._is_on and node_id == self._to_be_caught:
            self._to_be_caught = None
            if node_id in self._cluster.running:
                self._kill_now(node_id)

    def _power_loss(self) -> None:
        node_id = self._any_running()
        if node_id is None:
            return
        if self._rng.random() < 0.6:
            # At one of the next operations of its disk, so that the node itself runs into it.
            self._cluster.disks[node_id].faults.power_cut_in = self._rng.randrange(40)
        else:
            self._fired("power_loss", node_id)
            self.operator.bring_down(node_id, power=True)

    def _blackout(self) -> None:
        for node_id in [node_id for node_id in self._cluster.configs if node_id in self._cluster.running]:
            self._fired("blackout", node_id)
            self.operator.bring_down(node_id, power=True)

    def _stop(self) -> None:
        node_id = self._any_running()
        if node_id is None or node_id in self._cluster.paused:
            return
        self._fired("stop", node_id)
        self._cluster.begin_stop(node_id)
        self.operator.start_when_stopped(node_id)

    def _transfer(self) -> None:
        cluster = self._cluster
        leader_id = cluster.leader_id
        if leader_id in cluster.running and cluster.is_vote_of_disk:
            to = self._rng.choice((None, *(cluster.sets.voters or cluster.options.election_choice().voters)))
            self._fired("transfer", leader_id, f"to {to}" if to else "")
            cluster.transfer_lead(leader_id, to)

    def _voters(self) -> None:
        """One or two people at once, of whom some ask for what cannot be."""
        cluster, rng = self._cluster, self._voters_rng
        if not cluster.is_vote_of_disk or not self.budget.is_founded():
            return
        for _ in range(rng.choice((1, 1, 2))):
            asked = cluster.leader_id if rng.random() < 0.9 else rng.choice(list(cluster.configs))
            if asked not in cluster.running:
                return
            node_id = rng.choice((*cluster.configs, *cluster.configs, NodeId("n99")))
            is_addition = rng.random() < 0.5
            if not is_addition and cluster.sets.has_lost_another(node_id):
                continue  # too few would be left
            self._fired("voters", asked, f"{'add' if is_addition else 'remove'} {node_id}")
            cluster.change_voters(asked, node_id, is_addition=is_addition)
            if "kill" in self._plan.kinds and self._moments.random() < CAUGHT_AT_CHANGE_SHARE:
                self._to_be_caught = asked
                self._catch_soon(asked)

    def _pause(self) -> None:
        node_id = self._any_running()
        if node_id is not None and node_id not in self._cluster.stopping:
            self._fired("pause", node_id)
            self._cluster.pause(node_id)
            node = self._cluster.running[node_id]

            def end() -> None:
                if self._cluster.running.get(node_id) is node and self.operator.may_touch(node_id):
                    self._cluster.resume(node_id)

            self._cluster.after(self.operator.wait_s(8.0), end)

    def _slow_node(self) -> None:
        node_id = self._any_running()
        if node_id is not None:
            runtime, rng = self._cluster.runtime, self._rng
            most_s = 0.02 * self._plan.strength("slow_node")
            self._fired("slow_node", node_id, f"up to {most_s * 1000:.1f} ms a message")
            runtime.set_slowness(node_id, lambda: most_s * rng.random())
            self._cluster.after(1.0 + self.operator.wait_s(8.0), lambda: runtime.set_slowness(node_id, None))

    # ------------------------------------------------------------ clocks

    def _clock_drift(self) -> None:
        node_id = self._rng.choice(list(self._cluster.configs))
        rate = 1.0 + 0.1 * (self._rng.random() - 0.5) * self._plan.strength("clock_drift")
        self._fired("clock_drift", node_id, f"{rate:.4f}")
        self._cluster.clocks[node_id].set_rate(rate)

    def _clock_jump(self) -> None:
        node_id = self._rng.choice(list(self._cluster.configs))
        jump_s = 3600.0 * (2 * self._rng.random() - 1) ** 3
        self._fired("clock_jump", node_id, f"{jump_s:.3f} s")
        self._cluster.clocks[node_id].jump(jump_s)

    # ------------------------------------------------------------ disks

    def _slow_disk(self) -> None:
        node_id = self._any_running()
        if node_id is not None:
            faults = self._cluster.disks[node_id].faults
            faults.slow_s = 0.001 + 0.3 * self._plan.strength("slow_disk") * self._rng.random() ** 2

            def end() -> None:
                faults.slow_s = 0.0

            self._cluster.after(0.5 + self.operator.wait_s(5.0), end)

    def _disk_hangs(self) -> None:
        node_id = self._any_running()
        if node_id is not None:
            hang_s = 0.5 + 12.0 * self._plan.strength("disk_hangs") * self._rng.random()
            self._cluster.disks[node_id].faults.hang_s = hang_s

    def _disk_full(self) -> None:
        node_id = self._any_running()
        if node_id is not None:
            self.operator.blame(node_id, "disk_full")
            self._cluster.disks[node_id].faults.room_bytes = self._rng.randrange(3000)

    def _io_error(self) -> None:
        node_id = self._any_running()
        if node_id is not None:
            self.operator.blame(node_id, "io_error")
            self._cluster.disks[node_id].faults.io_error_in = self._rng.randrange(60)

    def _fsync_fails(self) -> None:
        node_id = self._any_running()
        if node_id is not None:
            self.operator.blame(node_id, "fsync_fails")
            self._cluster.disks[node_id].faults.sync_fails_in = self._rng.randrange(20)

    def _fsync_lies(self) -> None:
        node_id = self._any_running()
        if node_id is not None and self.budget.may_spoil("fsync_lies", node_id):
            self.budget.spoil("fsync_lies", node_id)
            self._cluster.disks[node_id].faults.lies = True
            self._cluster.after(0.5 + self.operator.wait_s(8.0), lambda: self.operator.end_lies(node_id))

    def _bit_rot(self) -> None:
        node_id = self._rng.choice(list(self._cluster.configs))
        if (leader_id := self._leader_at_times()) is not None:
            node_id = leader_id
        if self.operator.is_rotten(node_id) or not self.budget.may_spoil("bit_rot", node_id):
            return
        disk = self._cluster.disks[node_id]
        others = self._others_to_rot(node_id)
        rot = Rot.draw(disk, self._rng, self._shapes, tuple(others) or self._kept_alone(node_id))
        if rot is None:
            return
        self._strike(node_id, rot)
        also = [
            other
            for other in others.get(rot.path, ())
            if self._cluster.disks[other].bytes_at(rot.path, rot.position, len(rot.good)) == rot.good
        ]
        # The entry's last good copy does not rot.
        if len(also) >= 2:
            self._strike(self._shapes.choice(also), rot)

    def _rot_at_end(self, node_id: NodeId) -> None:
        is_cut_off = self._is_on and self._cluster.network.links.blocked
        if not is_cut_off or self.operator.is_rotten(node_id) or not self.budget.may_spoil("bit_rot", node_id):
            return
        rot = Rot.at_end(self._cluster.disks[node_id], self._shapes)
        if rot is not None:
            self._strike(node_id, rot)

    def _strike(self, node_id: NodeId, rot: Rot) -> None:
        rot.strike(self._cluster.disks[node_id])
        self._fired("bit_rot", node_id, str(rot))
        self.operator.note_rot(node_id, rot)

    def _others_to_rot(self, node_id: NodeId) -> dict[str, list[NodeId]]:
        """The segments that may rot on that disk and on another voter's at once, each with the voters that have it.

        A third voter keeps it, and nothing else is spoiled. Only sealed segments: what is damaged at the end of a log
        may be taken for a torn write at the next start.
        """
        if not self._cluster.is_vote_of_disk or self.budget.spoiled or self._shapes.random() >= ROTS_TWICE:
            return {}
        others = [voter for voter in self._cluster.options.election_choice().voters if voter != node_id]
        found = {path: [other for other in others if path in self._sealed(other)] for path in self._sealed(node_id)}
        return {path: having for path, having in found.items() if len(having) >= 2}

    def _kept_alone(self, node_id: NodeId) -> tuple[str, ...]:
        """The segments of that disk that every other one has removed, so that nobody can repair them; usually none."""
        if not self._plan.settings.get("retention_bytes") or self._shapes.random() >= ROTS_ALONE:
            return ()
        mine = self._sealed(node_id)
        firsts = [
            min(segments) for other in self._cluster.configs if other != node_id if (segments := self._segments(other))
        ]
        return tuple(path for path in mine if firsts and path < min(firsts))

    def _segments(self, node_id: NodeId) -> list[str]:
        return sorted(path for path in self._cluster.disks[node_id].durable() if path.endswith(LOG_SUFFIX))

    def _sealed(self, node_id: NodeId) -> list[str]:
        return self._segments(node_id)[:-1]

    def _disk_lost(self) -> None:
        node_id = self._any_running()
        if node_id is not None and self.budget.may_spoil("disk_lost", node_id):
            self._cluster.crash(node_id, power=True)
            self.operator.replace_disk(node_id)

    def _old_disk(self) -> None:
        """Back up one disk, and start some node again on an earlier backup of its own."""
        node_id = self._any_running()
        if node_id is None or node_id in self.budget.spoiled:
            return  # a backup of a damaged disk could never be repaired
        backup = self._backups.get(node_id)
        present = self._backups[node_id] = self._cluster.durable(node_id)
        # One that another disk has replaced since does not come back: its leader counts its fetches for nothing.
        is_present_disk = backup is not None and identity_on(backup) == identity_on(present)
        if backup is not None and is_present_disk and self.budget.may_spoil("old_disk", node_id):
            self._cluster.crash(node_id, power=True)
            self._fired("old_disk", node_id)
            self.operator.put_back(node_id, backup)
