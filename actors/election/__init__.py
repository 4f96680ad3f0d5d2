"""The election slot: its contract (`occupant`), one module for each occupant, and the claims that nodes compare.

Nothing here knows of batches or pulls. The table of occupants by name is with the node's wiring, in
`ourolog.actors.occupants`.
"""
