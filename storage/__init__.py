"""The durable log: batches in segment files, indexes, checkpoints, the ballot. Knows nothing of actors or RPC."""
