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
PRODUCE_ASK_AGAIN_S: Final = 0.05
_PRODUCE_ANSWERS_WITHIN_S: Final = 0.25
# A consumer at the end of the log hears nothing while nobody produces; asking costs the node something.
CONSUME_SILENT_AFTER_S: Final = 1.0
CONSUME_MOST_SILENT_S: Final = 5.0
_CONSUME_ANSWERS_WITHIN_S: Final = 1.0


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

    async def consume_failure(self, connection: NodeConnection) -> LogError | None:
        """Why to read from another node than this silent one; None while it answers, or is the only one."""
        if len(self._nodes.addresses) == 1 or await self.servers(connection, _CONSUME_ANSWERS_WITHIN_S) is not None:
            return None
        return gone_silent(connection.addr, _CONSUME_ANSWERS_WITHIN_S)

    async def produce_failure(self, connection: NodeConnection) -> LogError | None:
        """Why to wait no longer for the acknowledgement of this silent node.

        Another node must say of itself that it leads: what was sent to this one may be in the log, so it is not
        given up before there is somebody else to go on with.
        """
        if len(self._nodes.addresses) == 1:
            return None
        own, leader_addr = await asyncio.gather(
            self.servers(connection, _PRODUCE_ANSWERS_WITHIN_S), self._leader_beside(connection.addr)
        )
        return led_by_another(connection.addr, leader_addr) if own is None and leader_addr else None

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
