"""The names by which people read messages: in plays, reports and what checkers say."""

from __future__ import annotations

from ourolog.actors.messages.peer_calls import CallAnswer, CallReceived, CallReturned


def message_name(message: object) -> str:
    """The name of its class, and for a call between nodes what is asked or answered: `CallReceived(FetchRequest)`."""
    name = type(message).__name__
    match message:
        case CallReceived():
            return f"{name}({type(message.request).__name__})"
        case CallAnswer() | CallReturned():
            return f"{name}({type(message.response).__name__})"
        case _:
            return name
