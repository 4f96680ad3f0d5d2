"""Whether a node that says nothing is still there, and whether another one leads meanwhile."""

from __future__ import annotations

import asyncio
from typing import Final

import grpc

from ourolog.rpc.client_errors import LogError, gone_silent, led_by_another
from ourolog.rpc.client_nodes import ClientNodes, NodeConnection
from ourolog.rpc.client_types import ServerInfo
from ourolog.rpc.v1 import log_pb2 as pb

# A produce takes as long as it takes to be on other disks; after this the node is asked whether it is there.
PRODUCE_SILENT_AFTER_S: Final = 0.4
_PRODUCE_AGAIN_AFTER_S: Final = 0.05
_PRODUCE_ANSWERS_WITHIN_S: Final = 0.25
# One that did not answer in that time is waited for less when it is asked again: another may be elected meanwhile.
_STILL_ANSWERS_WITHIN_S: Final = 0.1
# A stream at the end of the log brings nothing while nobody produces; asking costs the node something.
STREAM_SILENT_AFTER_S: Final = 1.0
_STREAM_AGAIN_AFTER_S: Final = 4.0
_STREAM_ANSWERS_WITHIN_S: Final = 1.0


class Liveness:
    """Asks nodes who is there. What they say of others is remembered in the client's `ClientNodes`."""

    def __init__(self, nodes: ClientNodes) -> None:
        self._nodes = nodes

    async def servers(self, connection: NodeConnection, within_s: float) -> list[ServerInfo] | None:
        """Who is there, according to that node; None if it does not say in time."""
        try:
            with connection.in_use():
                response = await connection.stub.GetServers(pb.GetServersRequest(), timeout=within_s)
        except (grpc.aio.AioRpcError, grpc.aio.UsageError):
            return None
        if response is None:
            return None
        servers = [ServerInfo(server.id, server.rpc_addr, server.is_leader) for server in response.servers]
        self._nodes.told_of(servers, asyncio.get_running_loop().time())
        return servers

    async def stream_failure(self, connection: NodeConnection) -> tuple[LogError | None, float]:
        """Why to go on at another node than this silent one, if it does not answer; and when to ask again."""
        if len(self._nodes.addresses) > 1 and await self.servers(connection, _STREAM_ANSWERS_WITHIN_S) is None:
            return gone_silent(connection.addr, _STREAM_ANSWERS_WITHIN_S), 0.0
        return None, _STREAM_AGAIN_AFTER_S

    async def produce_failure(self, connection: NodeConnection) -> tuple[LogError | None, float]:
        """Why to wait no longer for what this silent node has been sent, if it is so; and when to ask again.

        Another node must say of itself that it leads: what was sent to this one may be in the log, so it is not
        given up before there is somebody else to go on with.
        """
        if len(self._nodes.addresses) == 1:
            return None, _STREAM_AGAIN_AFTER_S
        was_silent = self._nodes.is_silent(connection.addr)
        within_s = _STILL_ANSWERS_WITHIN_S if was_silent else _PRODUCE_ANSWERS_WITHIN_S
        own, leader_addr = await asyncio.gather(
            self.servers(connection, within_s), self._leader_beside(connection.addr)
        )
        self._nodes.answered(connection.addr, answered=own is not None)
        if own is None and leader_addr:
            return led_by_another(connection.addr, leader_addr), 0.0
        return None, _PRODUCE_AGAIN_AFTER_S

    async def _leader_beside(self, addr: str) -> str:
        """Where another node leads, by its own word; "" if none is found."""
        others = [other for other in self._nodes.addresses if other != addr]
        answers = await asyncio.gather(*(self._servers_at(other) for other in others))
        named = {server.rpc_addr for servers in answers for server in servers if server.is_leader} - {addr}
        for leader_addr in sorted(named):
            own = await self._servers_at(leader_addr)
            if any(server.is_leader and server.rpc_addr == leader_addr for server in own):
                return leader_addr
        return ""

    async def _servers_at(self, addr: str) -> list[ServerInfo]:
        return await self.servers(self._nodes.connection(addr), _PRODUCE_ANSWERS_WITHIN_S) or []
