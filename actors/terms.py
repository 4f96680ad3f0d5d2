"""Which terms that others speak of a node believes, and how far it goes for one."""

from __future__ import annotations

from typing import Final

from ourolog.storage.batch_limits import LIMIT
from ourolog.storage.types import Term

MAX_TERM_STEP: Final = 2**32
"""By how much one message may raise a node's term. Terms go up by one with each start or change of a leader,
so honest ones are never so far apart; and a forged one cannot use them up."""


def is_ahead(heard: Term, own: Term) -> bool:
    """Whether it is a later term, and a possible one: every node believes, and refuses, the same terms.

    Terms stay below LIMIT, so that there is always a next one and each fits where it is written.
    """
    return own < heard <= LIMIT - MAX_TERM_STEP


def step_towards(heard: Term, own: Term) -> Term:
    """How far to move towards a term that is ahead. A term further away will be heard of again, and reached then."""
    return Term(min(heard, own + MAX_TERM_STEP))
