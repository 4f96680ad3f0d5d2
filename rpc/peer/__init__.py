"""Calls between nodes over framed TCP: both ends of a connection, and what crosses it.

A connection is opened by the node that calls. Both ends say hello first: what they are, and which protocol they
speak. From then on it carries frames: requests and cancels one way, answers and refusals the other, each with the id
of its call, so that no call waits for the answer to another one. A node has two connections to each peer that it
calls, one for fetches of batches and one for everything else.

- What crosses: frames (the bytes), hello (the first frame of each side). The messages in the frames are those of
  proto/peer.proto; `ourolog.rpc.peer_codec` knows which belong to which call.
- A connection: connection (frames in, frames out), sockets (options), refusals (why a call or a caller is refused).
- The calling side: network, with connect and outgoing.
- The serving side: listener (who is let in), serving (one connection), service (calls, handed to actors).

Nothing here knows what the calls are about; that is for the actors. gRPC has no part in it.
"""
