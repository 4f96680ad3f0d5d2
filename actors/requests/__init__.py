"""The parts of the server actor: client requests that wait for their answer, produces and reads at the log's end.

Each part keeps requests and counts what they hold. The actor decides when a request is answered, and with
what; who leads, and what is committed, is not known here.
"""
