"""What the seed draws before a run: which faults are on, how strong each is, and sizes.

Swarm testing (Groce et al. 2012): runs with some faults switched off find more than runs with all of
them on, since faults hide each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any, Final

from ourolog.actors.config import Fsync
from ourolog.simulation.faults import KINDS, SPOILING
from ourolog.simulation.options import Options

LONG_RUN_MINUTES = 20.0
CALM_SHARE = 0.05
RETENTION_SHARE = 0.25
SMALL_INBOX_SHARE = 0.15
LATER: Final = frozenset({"disk_hangs", "transfer", "gossip_lost", "voters"})
"""Kinds of fault that came later: each draws by itself, so that what else a seed draws has stayed as it was."""
SMALL_BACKLOG_SHARE = 0.2
SCRUB_SHARE = 0.7
MIN_IN_SYNC_SHARE = 0.3
UNSYNCED_SHARE = 0.3

TAKES_THE_UNSYNCED = frozenset({"power_loss", "blackout", "fsync_fails", "fsync_lies"})
"""Faults under which `fsync interval` may lose what one node alone acknowledged; it does not promise to keep that."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the seed draws before a run.

    kinds: the kinds of fault that are on, in the order of KINDS.
    strengths: how strong each is, from 0 to 1.
    interval_s: the average time until the next fault of each kind, in virtual seconds.
    settings: fields of every NodeConfig.
    acks: what producers ask for.
    change_interval_s: how long an oracle lets a leader lead, on average, in virtual seconds.
    """

    kinds: tuple[str, ...]
    strengths: dict[str, float]
    interval_s: dict[str, float]
    settings: dict[str, Any]
    acks: tuple[str, ...]
    change_interval_s: float

    def strength(self, kind: str) -> float:
        """How strong that kind of fault is, 0 to 1; 0 if it is off."""
        return self.strengths.get(kind, 0.0)


def draw_plan(options: Options) -> Plan:
    """The plan of that seed."""
    rng = Random(f"{options.seed}/plan")  # noqa: S311  # a simulation's, not a secret
    share = rng.choice((0.15, 0.4, 0.8)) if rng.random() >= CALM_SHARE else 0.0
    streams = {kind: Random(f"{options.seed}/plan/{kind}") if kind in LATER else rng for kind in KINDS}  # noqa: S311
    drawn = tuple(kind for kind in KINDS if streams[kind].random() < share)
    kinds = drawn if options.faults is None else options.faults
    strengths = {kind: streams[kind].random() for kind in KINDS}
    interval_s = {kind: 3.0 + 27.0 * streams[kind].random() for kind in KINDS}
    settings: dict[str, Any] = {
        "segment_bytes": rng.choice((1_024, 2_048, 8_192, 32_768, 131_072)),
        "fetch_max_bytes": rng.choice((1_024, 65_536, 4_194_304)),
    }
    if rng.random() < RETENTION_SHARE:
        settings |= {
            "retention_bytes": settings["segment_bytes"] * rng.randrange(1, 4),
            "retention_check_s": rng.choice((1.0, 5.0)),
        }
    if rng.random() < SMALL_INBOX_SHARE:
        settings["max_waiting_requests"] = rng.randrange(1, 4)
    is_lazy = rng.random() < UNSYNCED_SHARE
    if is_lazy and TAKES_THE_UNSYNCED.isdisjoint(kinds):
        settings |= {"fsync": Fsync.INTERVAL, "fsync_interval_s": rng.choice((0.1, 1.0))}
    if options.minutes > LONG_RUN_MINUTES:
        # A log that only grows would fill the memory that simulates its disk.
        settings |= {"retention_bytes": 1_048_576, "segment_bytes": 65_536}
    acks = rng.choice((("default",), ("default", "leader", "quorum", "all")))
    if is_lazy and "leader" not in acks and options.election_choice().elects:
        # A quorum counts disks only, so nothing that it acknowledged is lost.
        settings |= {"fsync": Fsync.INTERVAL}
    if rng.random() < SMALL_BACKLOG_SHARE:
        # A bound on entries or on bytes, which a leader without a majority soon reaches.
        settings |= rng.choice(({"max_uncommitted_entries": 3}, {"max_uncommitted_bytes": 4_096}))
    in_sync_rng = Random(f"{options.seed}/plan/min_in_sync")  # noqa: S311
    if options.election_choice().elects and in_sync_rng.random() < MIN_IN_SYNC_SHARE:
        settings["min_in_sync"] = in_sync_rng.choice((1, 2, 2, 3))
    change_interval_s = rng.choice((1.0, 3.0, 10.0))
    if options.is_vote_of_disk:
        # Below one, slow links and disks lead to elections without any other fault.
        settings["election_timeout_s"] = rng.choice((0.3, 1.0, 1.0))
        if "voters" in kinds:
            # Usually none is gone for ten minutes in a run of one.
            settings["replace_after_s"] = Random(f"{options.seed}/plan/replace").choice((2.0, 5.0, 600.0))  # noqa: S311
    if options.has_disaster:
        # The disaster takes disks enough, and what all have acknowledged is what it may not take. Any of the first
        # voters may survive, so they stay voters.
        kinds = tuple(kind for kind in kinds if kind not in SPOILING and kind != "voters")
        acks = ("default", "quorum", "all", "all")
        if settings.get("min_in_sync", 1) > 1:
            # Produces that want more voters than a survivor has wait for all their time, and would fill a small inbox.
            settings.pop("max_waiting_requests", None)
    scrubs = Random(f"{options.seed}/plan/scrub")  # noqa: S311
    if "bit_rot" in kinds and scrubs.random() < SCRUB_SHARE:
        settings["scrub_interval_s"] = scrubs.choice((1.5, 4.0))
    return Plan(
        kinds=kinds,
        strengths={kind: strengths[kind] for kind in kinds},
        interval_s={kind: interval_s[kind] for kind in kinds},
        settings=settings,
        acks=acks,
        change_interval_s=change_interval_s,
    )
