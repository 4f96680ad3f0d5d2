"""The disk that can crash: what is written, what is durable, and everything a disk can do to a database.

`disk` is the Files port on it, for simulated clusters and for tests of a single log or actor. `inodes` and
`directory_entries` keep what processes see apart from what a power cut leaves. `image` reads what is durable,
`rot` flips a bit of it. Nothing here knows of nodes that talk to each other.
"""
