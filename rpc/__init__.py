"""The edges of a node: the gRPC services, the calls between nodes, gossip over UDP, the client, and the stubs in `v1`.

gRPC and generated code are imported here only.
"""
