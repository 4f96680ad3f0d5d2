"""What tests of actors share, shipped so that users can test actors of their own.

Probes and a scripted peer for single actors, and the conformance suite of the election slot. Nothing that a
node needs in production is here.
"""
