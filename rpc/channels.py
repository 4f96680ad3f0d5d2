"""gRPC channels to nodes, for clients."""

from __future__ import annotations

from typing import Final

import grpc

from ourolog.rpc.peer_values import MAX_MESSAGE_BYTES

CLIENT_OPTIONS: Final = (
    # gRPC's own bound of 4 MiB is below one batch.
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # Two clients of one process have two connections, as two processes would.
    ("grpc.use_local_subchannel_pool", 1),
)


def open_channel(rpc_addr: str) -> grpc.aio.Channel:
    """A channel to one node, on the running loop; it connects when it is first used."""
    return grpc.aio.insecure_channel(rpc_addr, options=CLIENT_OPTIONS)
