"""Filters what the election slot is told with every append and fetch, for occupants that do not want it."""

from __future__ import annotations

from ourolog.actors.messages.election import NEWS, ElectionMessage
from ourolog.actors.messages.mailbox import Mailbox


class NewsFilter(Mailbox[ElectionMessage]):
    """The occupant's mailbox for the senders of `News`: passes on everything except the `News` that it does not hear.

    Senders tell their news without asking whether it is wanted. What nobody hears never becomes a
    message, since even one more message for each record would cost noticeable time.
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
