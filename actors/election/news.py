"""The way to the election slot of what comes with every append and fetch: past an occupant that does not want it."""

from __future__ import annotations

from ourolog.actors.messages.election import NEWS, ElectionMessage
from ourolog.actors.messages.mailbox import Mailbox


class NewsFilter(Mailbox[ElectionMessage]):
    """The occupant's mailbox, for those who have news: hands on everything but the `News` that it does not hear.

    Whoever has news tells it, and does not ask whether anybody wants it. What nobody hears never becomes a
    message: on the way of every record one more of them would be felt.
    """

    def __init__(self, election: Mailbox[ElectionMessage], hears: frozenset[type]) -> None:
        """Pass on the `News` of the classes in `hears`, and no other.

        Raises ValueError for classes that are not `News`: those always pass.
        """
        if hears - NEWS:
            names = ", ".join(sorted(kind.__name__ for kind in hears - NEWS))
            raise ValueError(f"{names} is no news that an election can ask for")
        self._election = election
        self._unheard = NEWS - hears

    def tell(self, message: ElectionMessage) -> None:
        if type(message) not in self._unheard:
            self._election.tell(message)
