"""The actors of a node, and everything they need in order to run anywhere.

At the front stand the actors themselves (`store`, `membership`, `replicator`, `server`), what each of them is
(`actor`), what it is given (`config`, `ports`), where it runs (`threaded`, `stepping`), and `node`, which wires
five of them to each other. What an actor is made of has a folder of its own: `gossip`, `replication`,
`election`; what passes between them is in `messages`, what tests of them share in `testing`.

Nothing here reads a clock, draws a random number, opens a file or a socket, or knows of gRPC.
"""
