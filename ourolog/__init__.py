"""ourolog, a replicated commit log: the public face, all that a program needs in order to produce and consume.

    from ourolog import LogClient            # or BlockingLogClient, without asyncio
    from ourolog import Acks, ReadLevel      # what is asked for
    from ourolog import LogError             # what every call may raise

Names are loaded when they are first asked for: `import ourolog`, and with it `ourolog.storage` and
`ourolog.simulation`, costs no gRPC. Simulated clusters, for tests, are in `ourolog.simulation`; the
parts of an election of your own are in `ourolog.actors`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = [
    "Acknowledgement",
    "Acks",
    "BlockingLogClient",
    "LeaderTransfer",
    "LogBatch",
    "LogClient",
    "LogError",
    "LogRecord",
    "Provenance",
    "ReadLevel",
    "ServerInfo",
    "VotersChange",
    "__version__",
    "cluster_status",
    "encode_records",
]

if TYPE_CHECKING:
    from ourolog.actors.messages.values import Acks, ReadLevel
    from ourolog.rpc.blocking_client import BlockingLogClient
    from ourolog.rpc.client import LogClient
    from ourolog.rpc.client_errors import LogError
    from ourolog.rpc.client_types import (
        Acknowledgement,
        LeaderTransfer,
        LogBatch,
        LogRecord,
        Provenance,
        ServerInfo,
        VotersChange,
    )
    from ourolog.rpc.cluster_status import cluster_status
    from ourolog.storage.record_set import encode_records
else:
    # Hidden from type checkers, for which any name would be right otherwise.

    _HOMES = {
        "Acknowledgement": "ourolog.rpc.client_types",
        "Acks": "ourolog.actors.messages.values",
        "BlockingLogClient": "ourolog.rpc.blocking_client",
        "LeaderTransfer": "ourolog.rpc.client_types",
        "LogBatch": "ourolog.rpc.client_types",
        "LogClient": "ourolog.rpc.client",
        "LogError": "ourolog.rpc.client_errors",
        "LogRecord": "ourolog.rpc.client_types",
        "Provenance": "ourolog.rpc.client_types",
        "ReadLevel": "ourolog.actors.messages.values",
        "ServerInfo": "ourolog.rpc.client_types",
        "VotersChange": "ourolog.rpc.client_types",
        "cluster_status": "ourolog.rpc.cluster_status",
        "encode_records": "ourolog.storage.record_set",
    }

    def __getattr__(name: str) -> object:
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        found = globals()[name] = getattr(import_module(home), name)
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
