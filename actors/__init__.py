"""The actors of a node, and everything they need in order to run anywhere.

The actors themselves are at the top level (`store`, `membership`, `replicator`, `server`), together with their base
class (`actor`), what they are given (`config`, `ports`), the runtimes they run on (`looping`, `threaded`,
`stepping`), and `node`, which wires the five actors together. What an actor is made of has a folder of its own:
`gossip`, `replication`, `requests`, `election`. The messages between actors are in `messages`; what their tests share
is in `testing`.

Nothing here reads a clock, draws a random number, opens a file or a socket, or knows of gRPC.
"""
