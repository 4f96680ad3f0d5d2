"""The table of all scenarios, cheapest kinds of villain first."""

from __future__ import annotations

import dataclasses
from typing import Final

from torture.bounds import Bounds
from torture.faults import (
    and_restarts,
    beside,
    cut_gossip,
    failed_fsync,
    frozen_leader,
    full_disk,
    kill_loop,
    remote,
    stopped_in,
)
from torture.scenario import STATIC, Scenario

# Clients that send little, or are sent little, cost little.
_LIGHT: Final = Bounds(grown_mib=96, kept_mib=64)
# What docs/api.md and docs/running.md name: 180 MiB arriving, up to three times that while they are handed
# over, 64 MiB of produces, 128 MiB of answers to those who copy them.
_GREEDY: Final = Bounds(wait_s=15, typical_s=3, behind_s=15, grown_mib=736, kept_mib=256)
# A node that is started again is away for as long as its start takes on a busy machine.
_RESTARTS: Final = Bounds(wait_s=25, typical_s=5, behind_s=25, refused=True, unknown=True, settle_s=30, log_lines=1_000)

SCENARIOS: Final = (
    # Clients.
    Scenario(
        "silent_produces",
        "96 Produce calls whose message never comes",
        remote("silent_produces"),
        must={"calls without a message": 96},
        bounds=_LIGHT,
    ),
    Scenario(
        "a_byte_a_second",
        "100 calls and 100 connections that send one byte a second",
        remote("a_byte_a_second"),
        must={"slow calls": 100, "slow connections": 100},
        bounds=_LIGHT,
    ),
    Scenario(
        "greedy_streams",
        "100 produce streams of 8 MiB each that wait for a disk that does not come",
        beside("greedy_streams", "n3"),
        nodes=3,
        flags=STATIC,
        must={"greedy streams": 100},
        # Honest records stand in line behind what the node has admitted, 64 MiB for two disks.
        bounds=_GREEDY,
    ),
    Scenario(
        "greedy_calls",
        "200 clients that each send 8 MiB in single calls, again and again",
        remote("greedy_calls"),
        must={"large batches": 10},
        # The same; and the consumer must read all of it.
        bounds=_GREEDY,
    ),
    Scenario(
        "unread_streams",
        "1,500 consume streams that are never read, on a log of 32 MiB",
        remote("unread_streams"),
        fill_mib=32,
        must={"streams": 1_500},
    ),
    Scenario(
        "idle_sockets",
        "400 sockets that say nothing, at a limit of 256 open files",
        remote("idle_sockets"),
        open_files=256,
        flags=("--segment-bytes", "64KiB"),  # the store needs descriptors, too
        must={"sockets": 200},
        bounds=Bounds(grown_mib=96, kept_mib=64, strangers_wait=False),
    ),
    Scenario(
        "noise",
        "connections that send garbage, half a preface, broken TLS, HTTP/1.1 and impossible frames",
        remote("noise"),
        must={"noisy connections": 200},
        bounds=_LIGHT,
    ),
    Scenario(
        "absurd_metadata",
        "calls whose :path is not UTF-8, with absurd metadata",
        remote("absurd_metadata"),
        must={"absurd calls": 40},
        bounds=Bounds(
            grown_mib=96, kept_mib=64, log_errors=3
        ),  # grpcio's own words about headers that are not UTF-8, once for each kind
    ),
    Scenario(
        "undecodable",
        "bytes that are no message, on every method",
        remote("undecodable"),
        must={"undecodable messages": 50},
        bounds=_LIGHT,
    ),
    Scenario(
        "absurd_requests",
        "well-formed requests whose numbers, counts and payloads make no sense",
        remote("absurd_requests"),
        must={"absurd requests": 100},
    ),
    Scenario(
        "vanishing",
        "clients that vanish (RST) in the middle of everything",
        remote("vanishing"),
        fill_mib=4,
        must={"vanished": 100},
    ),
    Scenario(
        "rapid_resets",
        "streams that are reset the moment they are opened, by the thousand",
        remote("rapid_resets"),
        fill_mib=4,
        must={"streams reset": 1_000},  # what it gets done beside others on a busy machine is less than it could
        # A limit that docs/running.md names: each is a call to be looked at, and 8,192 may wait for that, some
        # 60 KiB and a millisecond or two each; what is beyond that ends as CANCELLED, honest calls too.
        bounds=Bounds(wait_s=30, typical_s=3, grown_mib=512, kept_mib=256, unknown=True),
    ),
    Scenario(
        "cancel_storm",
        "calls of every kind, cancelled at once",
        remote("cancel_storm"),
        must={"cancelled calls": 500},
    ),
    Scenario(
        "impatient_produces",
        "20,000 produces whose deadline ends before all voters have them",
        beside("impatient_produces", "n3"),
        nodes=3,
        flags=STATIC,
        must={"impatient produces": 1_000},
        # 200 clients that connect as fast as they can leave little of two cores.
        bounds=Bounds(wait_s=10, typical_s=2, behind_s=10),
    ),
    # Peers.
    Scenario(
        "fetches_unread",
        "400 fetches of 4 MiB by peers that do not read",
        remote("fetches_unread"),
        nodes=3,
        flags=STATIC,
        fill_mib=16,
        must={"fetches": 400},
        bounds=_LIGHT,
    ),
    Scenario(
        "fetch_storm",
        "1,000 fetches of 4 MiB under way at once",
        remote("fetch_storm"),
        nodes=3,
        flags=STATIC,
        fill_mib=16,
        must={"fetches": 50},
        bounds=_LIGHT,
    ),
    Scenario(
        "stop_in_fetch_storm",
        "SIGTERM in the middle of 1,000 fetches of 4 MiB",
        stopped_in("fetch_storm", stop_s=15.0),
        fill_mib=16,
        flags=("--election", "static:n1"),
        bounds=_RESTARTS,
    ),
    Scenario(
        "parked_fetches",
        "2,000 fetches that wait at the end of the log, each under a name of its own",
        remote("parked_fetches"),
        nodes=3,
        flags=STATIC,
        must={"fetches": 1_500},
        bounds=_LIGHT,
    ),
    Scenario(
        "absurd_fetches",
        "fetches with impossible terms, indexes, epochs, places and names",
        remote("absurd_fetches"),
        nodes=3,
        flags=STATIC,
        must={"absurd fetches": 300},
        bounds=_LIGHT,
    ),
    Scenario(
        "forged_voters",
        "the same under the names of voters; afterwards every node is started again",
        and_restarts(remote("forged_voters")),
        nodes=3,
        flags=STATIC,
        must={"absurd fetches": 300},
        bounds=_RESTARTS,
    ),
    Scenario(
        "election_calls",
        "500 election calls at once at each node, by strangers and under the names of voters",
        remote("election_calls"),
        nodes=3,
        flags=STATIC,
        must={"election calls": 1_000},
        bounds=_LIGHT,
    ),
    Scenario(
        "lying_peer",
        "a member that all pull from, and that answers each fetch with another lie",
        remote("lying_peer"),
        nodes=2,
        must={"lies": 70},
    ),
    Scenario(
        "poisoned_batches",
        "a member whose batches are checksummed well, and hold what no consumer can read",
        remote("poisoning_peer"),
        nodes=2,
        must={"lies": 12},
    ),
    Scenario(
        "peer_noise",
        "connections for nodes that send garbage, half a hello, impossible frames, TLS, HTTP",
        remote("peer_noise"),
        nodes=3,
        flags=STATIC,
        must={"noisy connections": 200},
        bounds=_LIGHT,
    ),
    Scenario(
        "idle_peers",
        "400 connections for nodes that say nothing, or nothing after hello, at a limit of 256 open files",
        remote("idle_peers"),
        nodes=3,
        open_files=256,
        flags=STATIC,
        must={"sockets": 400},
        bounds=_LIGHT,
    ),
    # Gossip.
    Scenario(
        "gossip_members",
        "30,000 made-up members, with nobody elected, so that each would be pulled from",
        remote("gossip_members"),
        nodes=2,
        must={"made-up members": 10_000},
        bounds=Bounds(
            grown_mib=96, kept_mib=64, grown_files=300, log_lines=400
        ),  # the 64 that really live somewhere may join and fail
    ),
    Scenario(
        "gossip_forged",
        "forged updates that every node has failed, left or moved",
        remote("gossip_forged"),
        nodes=3,
        flags=STATIC,
        must={"forged updates": 200},
        bounds=Bounds(grown_mib=96, kept_mib=64, log_lines=400),  # suspicions and their refutations are said
    ),
    Scenario(
        "gossip_flood",
        "as many datagrams as go: noise, damage, other versions and clusters, pings",
        remote("gossip_flood"),
        nodes=3,
        flags=STATIC,
        must={"datagrams": 10_000},
        bounds=_LIGHT,
    ),
    Scenario(
        "gossip_cut",
        "no datagram reaches the leader or comes from it for 10 s, and TCP is well",
        cut_gossip,
        nodes=3,
        flags=STATIC,
        is_relayed=True,
        must={"datagrams dropped": 20},
        bounds=_LIGHT,
    ),
    # Processes and disks.
    Scenario(
        "failed_fsync",
        "the leader's fdatasync fails (EIO) with produces open, it ends, it is started again",
        failed_fsync,
        nodes=3,
        flags=STATIC,
        crowd=16,
        needs=("strace",),
        must={"failed syncs": 1},
        bounds=dataclasses.replace(_RESTARTS, log_errors=20),  # it says why it ends, each time
    ),
    Scenario(
        "kill_loop",
        "kill -9 of one node after the other, the leader included",
        kill_loop,
        nodes=3,
        crowd=8,
        flags=STATIC,
        must={"kills": 3},
        bounds=_RESTARTS,
    ),
    Scenario(
        "frozen_leader",
        "the leader stands still (SIGSTOP) for 8 s",
        frozen_leader,
        nodes=3,
        flags=STATIC,
        must={"freezes": 1},
        # Nobody else may lead meanwhile: every wait is as long as the leader's pause.
        bounds=Bounds(wait_s=16, typical_s=16, behind_s=16, unknown=True),
    ),
    Scenario(
        "full_disk",
        "the leader's disk fills up with produces open, it ends, there is room again, it is started again",
        full_disk,
        nodes=3,
        flags=STATIC,
        disk_mib=96,
        crowd=32,
        must={"full": 1},
        # The node says why it ends, each time; until it is started again nobody is served.
        bounds=Bounds(
            wait_s=30, typical_s=5, behind_s=30, refused=True, unknown=True, log_errors=50, strangers_wait=False
        ),
    ),
)
"""In the order in which they are played."""
