"""The benchmark against peers: `python -m bench.peers`; see docs/benchmarks.md.

load/ is the Go module of the load generators, go_servers/ the modules from which etcd and NATS are built, kafka/ the
project by which Maven gets Kafka. Nothing here is installed, and nothing in `make test` or `make check` needs a peer.
"""
