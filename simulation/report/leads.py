"""Who led when, and who voted for whom: what is kept of it, and the picture of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from html import escape
from typing import Final

from ourolog.actors.messages.events import LeaderChanged
from ourolog.actors.messages.store import BallotSaved, SaveBallot
from ourolog.simulation.events import (
    Event,
    MessageTold,
    NodeCrashed,
    NodeSaid,
    NodeStarted,
    NodeStopped,
)
from ourolog.simulation.report.rows import Lead, Vote, Window
from ourolog.storage.types import NodeId

_PALETTE: Final = 8
_WIDTH: Final = 1120
_LANE: Final = 26
_LEFT: Final = 44
_RIGHT: Final = 14
_TOP: Final = 6
_TICKS: Final = 8
_TERM_FITS: Final = 7.0
"""How wide one figure of a term's number is, with its part of the margin."""


class LeadRecorder:
    """Keeps the last `limit` leads, as many votes, and as many times at which each node was down."""

    def __init__(self, limit: int) -> None:
        self._leads: deque[Lead] = deque(maxlen=limit)
        self._votes: deque[Vote] = deque(maxlen=limit)
        self._present: dict[NodeId, Lead] = {}
        self._asked: dict[tuple[str, int], SaveBallot] = {}
        self._down: dict[NodeId, deque[tuple[float, float]]] = {}
        self._down_s: dict[NodeId, float] = {}
        self._limit = limit

    def see(self, event: Event) -> None:
        """Called for every event, in order."""
        match event:
            case NodeSaid(event=LeaderChanged() as changed):
                self._on_leader_changed(event, changed)
            case MessageTold(message=SaveBallot() as asked):
                self._asked[event.receiver, asked.request_id] = asked
            case MessageTold(message=BallotSaved() as saved):
                self._on_saved(event, saved)
            case NodeStarted():
                if event.node_id in self._down_s:
                    spans = self._down.setdefault(event.node_id, deque(maxlen=self._limit))
                    spans.append((self._down_s.pop(event.node_id), event.time_s))
            case NodeStopped() | NodeCrashed():
                self._end(event.node_id, event.time_s)
                self._down_s[event.node_id] = event.time_s
                self._asked = {key: asked for key, asked in self._asked.items() if key[0] != f"{event.node_id}.store"}
            case _:
                pass

    def fill(self, window: Window) -> None:
        """Put what is kept into the window."""
        window.leads, window.votes = list(self._leads), list(self._votes)
        window.down = {node_id: list(spans) for node_id, spans in self._down.items()}
        for node_id, begin_s in self._down_s.items():
            window.down.setdefault(node_id, []).append((begin_s, window.end_s))

    def _on_leader_changed(self, said: NodeSaid, changed: LeaderChanged) -> None:
        present = self._present.get(said.node_id)
        if changed.leader_id == said.node_id:
            if present is None or present.term != changed.term:
                self._end(said.node_id, said.time_s)
                lead = self._present[said.node_id] = Lead(said.node_id, changed.term, said.time_s)
                self._leads.append(lead)
        else:
            self._end(said.node_id, said.time_s)

    def _on_saved(self, told: MessageTold, saved: BallotSaved) -> None:
        asked = self._asked.pop((told.sender, saved.request_id), None)
        if asked is None or asked.ballot.voted_for is None:
            return
        node_id = NodeId(told.sender.rpartition(".")[0])
        if asked.candidate is not None or asked.ballot.voted_for == node_id != asked.ballot.leader_id:
            ballot = asked.ballot
            self._votes.append(Vote(told.time_s, node_id, asked.ballot.voted_for, ballot.term, saved.granted))

    def _end(self, node_id: NodeId, time_s: float) -> None:
        lead = self._present.pop(node_id, None)
        if lead is not None:
            lead.end_s = time_s


def leaders(window: Window) -> str:
    """A lane per node: a bar in its colour while it leads, with the term, and a dot for each vote.

    A dot has the colour of the candidate, and is hollow if the vote was refused. "" if nobody led or voted.
    """
    if not window.leads and not window.votes:
        return ""
    numbers = {node: number for number, node in enumerate(window.nodes)}
    span_s = max(window.end_s, 1e-6)
    bottom = _TOP + _LANE * len(numbers)

    def x_of(time_s: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * min(time_s, span_s) / span_s

    parts = []
    for node, number in numbers.items():
        y = _TOP + _LANE * number
        parts.append(
            f'<line class="rail" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y + _LANE / 2:g}" y2="{y + _LANE / 2:g}"/>'
            f'<text class="lane" x="{_LEFT - 8}" y="{y + _LANE / 2 + 4:g}">{escape(node)}</text>'
        )
        for begin_s, end_s in window.down.get(node, ()):
            width = max(x_of(end_s) - x_of(begin_s), 1.0)
            parts.append(
                f'<rect class="down" x="{x_of(begin_s):.1f}" y="{y + 3}" width="{width:.1f}" height="{_LANE - 6}">'
                f"<title>{escape(node)} is down, {begin_s:.3f} to {end_s:.3f} s</title></rect>"
            )
    parts += [_lead(lead, numbers[lead.node_id], x_of, window.end_s) for lead in window.leads]
    parts += [_vote(vote, numbers, x_of) for vote in window.votes if vote.candidate_id in numbers]
    for tick in range(_TICKS + 1):
        time_s = span_s * tick / _TICKS
        kind = "tick last" if tick == _TICKS else "tick" if not tick else "tick mid"
        parts.append(f'<text class="{kind}" x="{x_of(time_s):.1f}" y="{bottom + 14}">{time_s:.1f} s</text>')
    return (
        f'<svg class="leaders" viewBox="0 0 {_WIDTH} {bottom + 20}" role="img" aria-label="who led when" '
        f'style="max-height:{(bottom + 20) * 1.3:.0f}px">{"".join(parts)}</svg>'
    )


def _lead(lead: Lead, number: int, x_of: Callable[[float], float], end_s: float) -> str:
    until_s = end_s if lead.end_s is None else lead.end_s
    x, width, y = x_of(lead.begin_s), max(x_of(until_s) - x_of(lead.begin_s), 2.0), _TOP + _LANE * number
    text = str(lead.term)
    label = ""
    if width >= _TERM_FITS * (len(text) + 1):
        label = f'<text class="cell" x="{x + width / 2:.1f}" y="{y + _LANE / 2 + 4:g}">{text}</text>'
    until = "to the end" if lead.end_s is None else f"to {until_s:.3f} s"
    return (
        f"<g><title>{escape(lead.node_id)} leads term {text}, {lead.begin_s:.3f} {until}</title>"
        f'<rect class="n{number % _PALETTE}" x="{x:.1f}" y="{y + 3}" width="{width:.1f}" height="{_LANE - 6}" rx="3"/>'
        f"{label}</g>"
    )


def _vote(vote: Vote, numbers: dict[NodeId, int], x_of: Callable[[float], float]) -> str:
    y = _TOP + _LANE * numbers[vote.node_id] + _LANE / 2
    how = "votes for" if vote.granted else "refuses its vote to"
    colour = f"n{numbers[vote.candidate_id] % _PALETTE}"
    return (
        f'<circle class="vote {colour}{"" if vote.granted else " refused"}" cx="{x_of(vote.time_s):.1f}" cy="{y:g}" '
        f'r="3.4"><title>{escape(vote.node_id)} {how} {escape(vote.candidate_id)} in term {vote.term}, at '
        f"{vote.time_s:.3f} s</title></circle>"
    )
