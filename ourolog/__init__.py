"""ourolog, a replicated commit log: the public face.

`from ourolog import LogClient` is all that a program needs in order to produce and consume. The
client is loaded when it is asked for, so that `import ourolog` stays cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ourolog.rpc.client import LogClient as LogClient

__version__ = "0.1.0"
__all__ = ["LogClient", "__version__"]


def __getattr__(name: str) -> object:
    if name == "LogClient":
        from ourolog.rpc.client import LogClient

        return LogClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
