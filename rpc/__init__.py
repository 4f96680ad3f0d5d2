"""The network edge: a node's gRPC services, calls between nodes over TCP, gossip over UDP, the client, `v1`'s stubs.

Only this package imports gRPC and generated code.

- A node: node_server (all of it), listener (the gRPC port), gossip_port with datagrams, open_files.
- Its services: log_service with produce_handler and consume_handler, health, reflection. server_calls is how every
  call of theirs begins and ends; errors is what it may end with.
- Calls between nodes: peer. What crosses is in peer_codec, election_codec, repair_codec and peer_values.
- Bounds on what others may cost a node: admission, arrival_limiter, fetch_limiter, urgent_call_limiter,
  datagram_rate_limit.
- Between asyncio and the actors: loop_mailboxes.
- The client: client, blocking_client and what they are made of.
"""
