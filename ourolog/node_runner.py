"""The life of a node's process: start, say so, log, wait for a signal, drain, exit."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import threading
import time
from typing import Any, Final

from ourolog.actors.actor import ActorStuckError
from ourolog.actors.config import NodeConfig
from ourolog.actors.messages.events import LeaderChanged
from ourolog.actors.messages.observer import (
    CycleSeen,
    NameContested,
    NodeEvent,
    NodeNotReady,
    NodeReady,
    NodeWarned,
)
from ourolog.cycle_log_throttle import CycleLogThrottle
from ourolog.log_events import LogEvent, log_event_of
from ourolog.logs import EventLog
from ourolog.rpc.node_server import NodeServer
from ourolog.storage.errors import StorageError
from ourolog.storage.types import NodeId, Term
from ourolog.systemd import notify
from ourolog.warning_log_throttle import WarningLogThrottle

_EXIT_FORCED: Final = 1
_ORPHAN_MARGIN_S: Final = 5.0


class NodeRunner:
    """One node as a process. `run` returns the exit status."""

    def __init__(
        self,
        config: NodeConfig,
        *,
        advertise_rpc_addr: str | None = None,
        advertise_gossip_addr: str | None = None,
        advertise_peer_addr: str | None = None,
        ready_file: str | None = None,
        drain_s: float = 10.0,
        exit_with_parent: bool = False,
    ) -> None:
        self._config = config
        self._ready_file = ready_file
        self._drain_s = drain_s
        self._exit_with_parent = exit_with_parent
        self._log = EventLog(logging.getLogger(__name__), node_id=config.node_id)
        self._advertise_rpc_addr = advertise_rpc_addr
        self._advertise_gossip_addr = advertise_gossip_addr
        self._advertise_peer_addr = advertise_peer_addr
        self._addresses: dict[str, Any] = {}
        self._readiness: NodeReady | NodeNotReady | None = None
        self._is_announced = False
        self._told_leader: tuple[Term, NodeId | None] | None = None

    async def run(self) -> int:
        """0 after a signal and a clean stop, 1 if the node could not start or had to stop."""
        loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._cycle_log = CycleLogThrottle(self._write, loop)
        self._warning_log = WarningLogThrottle(self._write, loop)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._request_shutdown, signal.Signals(number).name)
        if self._exit_with_parent:
            threading.Thread(target=self._watch_parent, args=(loop,), name="parent", daemon=True).start()
        self._remove_ready_file()
        server = NodeServer(
            self._config,
            self._on_event,
            advertise_rpc_addr=self._advertise_rpc_addr,
            advertise_gossip_addr=self._advertise_gossip_addr,
            advertise_peer_addr=self._advertise_peer_addr,
        )
        try:
            return await self._serve(server)
        except OSError as error:
            self._log_failure(error.strerror or str(error))
            return 1
        except (StorageError, ValueError) as error:
            self._log_failure(str(error))
            return 1
        finally:
            self._remove_ready_file()

    async def _serve(self, server: NodeServer) -> int:
        addresses = await server.start()
        self._addresses = {"rpc_addr": addresses.rpc_addr, "gossip_addr": addresses.gossip_addr}
        if addresses.peer_addr != addresses.gossip_addr:
            self._addresses["peer_addr"] = addresses.peer_addr
        self._log.info("listening", **self._addresses, data_dir=self._config.data_dir, pid=os.getpid())
        if self._readiness is not None:
            self._announce(self._readiness)
        shutdown_requested = asyncio.ensure_future(self._stopping.wait())
        either: set[asyncio.Future[Any]] = {shutdown_requested, server.failed}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        failed = server.failed.done()
        notify("STOPPING=1")
        self._log.info("stopping", drain_s=self._drain_s)
        shutdown_requested.cancel()
        try:
            await server.stop(self._drain_s)
        except ActorStuckError as error:
            self._log_failure(f"{error}; what it hangs in may be the disk. What was acknowledged is on it all the same")
            failed = True
        self._cycle_log.close()
        self._warning_log.close()
        self._log.info("stopped")
        return 1 if failed else 0

    def _on_event(self, event: NodeEvent) -> None:
        if isinstance(event, CycleSeen):
            self._cycle_log.saw(event)
            return
        if isinstance(event, NodeWarned | NameContested):
            self._warning_log.warned(event)
            return
        if isinstance(event, NodeReady | NodeNotReady):
            self._readiness = event
            if self._addresses:  # else the actors were faster than the sockets, and `_serve` announces it
                self._announce(event)
            return
        if isinstance(event, LeaderChanged):
            if (event.term, event.leader_id) == self._told_leader:
                return  # only why nobody leads has changed; `not_ready` says it
            self._told_leader = (event.term, event.leader_id)
        self._write(log_event_of(event))

    def _announce(self, event: NodeReady | NodeNotReady) -> None:
        """Say that the node runs, once, and from then on whether clients are well served by it.

        A node runs when it has opened its log: who waits for its start is not to wait for other nodes too.
        """
        if self._stopping.is_set():
            return
        if not self._is_announced:
            self._is_announced = True
            if self._ready_file is not None:
                self._write_ready_file(self._ready_file)
            notify("READY=1")
            self._log.info("ready", **self._addresses)
        elif isinstance(event, NodeReady):
            self._log.info("ready", **self._addresses)
        if isinstance(event, NodeNotReady):
            self._write(log_event_of(event))
            notify(f"STATUS=not ready: {' '.join(event.reason.split())}")
        else:
            notify("STATUS=ready")

    def _write(self, event: LogEvent) -> None:
        self._log.log(_LEVELS[event.level], event.name, **event.fields)

    def _log_failure(self, reason: str) -> None:
        self._log.error("node_failed", actor="process", reason=reason, is_bug=False)

    def _write_ready_file(self, path: str) -> None:
        """Write the file atomically: whoever waits for it may read it the moment it exists."""
        content = {
            "node_id": self._config.node_id,
            "cluster": self._config.cluster,
            **self._addresses,
            "pid": os.getpid(),
        }
        beside = f"{path}.{os.getpid()}"
        try:
            with open(beside, "w", encoding="utf-8") as file:
                json.dump(content, file)
                file.write("\n")
            os.replace(beside, path)
        except OSError as error:
            self._log.warning("ready_file_failed", reason=f"cannot write {path}: {error.strerror}")

    def _remove_ready_file(self) -> None:
        """Remove the file, also one that an earlier process left: it would say that the node has started."""
        if self._ready_file is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._ready_file)

    def _request_shutdown(self, why: str) -> None:
        if self._stopping.is_set():
            self._log.warning("shutdown_forced", reason=f"{why} while stopping: ending at once")
            sys.stderr.flush()
            os._exit(_EXIT_FORCED)
        self._log.info("shutdown_requested", why=why)
        self._stopping.set()

    def _watch_parent(self, loop: asyncio.AbstractEventLoop) -> None:
        """Standard input is a pipe from the parent: it ends when the parent does, however that ended."""
        with contextlib.suppress(OSError):
            while os.read(0, 4096):
                pass
        with contextlib.suppress(RuntimeError):  # the loop may be closed already
            loop.call_soon_threadsafe(self._on_parent_exit)
        time.sleep(self._drain_s + _ORPHAN_MARGIN_S)
        os._exit(_EXIT_FORCED)

    def _on_parent_exit(self) -> None:
        if not self._stopping.is_set():
            self._request_shutdown("the parent process ended")


_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
