"""`python -m torture.villains NAME TARGET`: see the package."""

from __future__ import annotations

import asyncio
import json
import os
import sys

# gRPC's C core writes to stderr by itself, and prepares for forks that never happen here.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

from torture.villains import calls, connections, gossip, liar, peers
from torture.villains.target import VILLAINS, Target, take_all_descriptors

MODULES = (calls, connections, gossip, liar, peers)


async def main() -> None:
    name, target = sys.argv[1], Target.parse(sys.argv[2])
    take_all_descriptors()
    # A real villain would have a machine of its own: its use of this one's processors is not part of the attack.
    os.nice(10)
    await VILLAINS[name](target)
    print(json.dumps(target.counts), flush=True)
    # Hundreds of calls and sockets are still open, and the kernel closes them fastest.
    os._exit(0)


asyncio.run(main())
