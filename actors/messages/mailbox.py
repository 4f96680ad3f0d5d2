"""A mailbox: anything that can be told a message."""

from __future__ import annotations

from typing import Protocol, TypeVar

M_contra = TypeVar("M_contra", contravariant=True)


class Mailbox(Protocol[M_contra]):
    """Where a message can be told: a pykka ref, a probe in a test, or an edge's own inbox."""

    def tell(self, message: M_contra) -> None:
        """Hand over the message and return at once."""
