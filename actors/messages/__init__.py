"""Everything that passes between actors, and between actors and the edges: one module for each mailbox.

Each module holds what its mailbox is told and what it answers, and ends in the closed union of all that the
mailbox can be told. Events that several mailboxes receive are in `events`, values that several messages carry in
`values`, what crosses the wire between nodes in `peer_calls`, what a node tells its owner in `observer`.

Commands are imperative, events past tense. Each message says who sends it and why. All are deeply frozen.
Seconds, milliseconds and bytes are in the names. `request_id` is chosen by the asker and
comes back in the answer; it is unique among that asker's open requests. `reply_to` is where the answer goes.

Nothing is re-exported here, and nothing here has behaviour.
"""
