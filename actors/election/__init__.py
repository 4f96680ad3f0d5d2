"""The election slot: its contract (`occupant`), one module for each occupant, and the claims that are compared.

Nothing here knows of batches or of pulls. The table of occupants by name is not here but beside the node's
wiring, in `ourolog.actors.occupants`.
"""
