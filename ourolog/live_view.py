"""What happens in a cluster, one readable line an event."""

from __future__ import annotations

import re
import threading
from typing import Final

from rich.console import Console
from rich.text import Text

from ourolog.local_cluster import LogLine

COLOURS: Final = ("cyan", "magenta", "green", "yellow", "blue", "bright_red")
_NODE: Final = re.compile(r"\bn\d+\b")


def colour_of(node_id: str) -> str:
    """A node's colour, which is the same on every screen."""
    digits = "".join(filter(str.isdigit, node_id))
    return COLOURS[(int(digits) - 1 if digits else len(node_id)) % len(COLOURS)]


def coloured(text: Text) -> Text:
    """Every word n1, n2, … in its node's colour."""
    for found in _NODE.finditer(text.plain):
        text.stylize(colour_of(found.group()), found.start(), found.end())
    return text


class LiveView:
    """Prints the events that matter; lines of several nodes come from several threads."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.Lock()

    def show(self, line: LogLine) -> None:
        """Print the line's event, if it is one that a person watches for."""
        told = readable(line)
        if told is not None:
            self.say(line.node_id, *told)

    def say(self, node_id: str, what: str, details: str) -> None:
        """`n1  joined   n2 at 127.0.0.1:8410`."""
        text = Text(f"  {node_id:<4} {what:<11} {details}".rstrip())
        text.stylize("bold", 7, 7 + len(what))
        self.print(coloured(text))

    def print(self, text: Text | str = "") -> None:
        """Print lines whole and together, never wrapped, so that it can be searched for in a log."""
        with self._lock:
            self._console.print(text, soft_wrap=True, highlight=False, markup=False)


def readable(line: LogLine) -> tuple[str, str] | None:
    """What happened and to whom, or None for what only a log needs."""
    fields = line.fields
    reason = str(fields.get("reason", ""))
    match line.event:
        case "ready":
            return "ready", f"gRPC on {fields.get('rpc_addr')}, gossip on {fields.get('gossip_addr')}"
        case "not_ready":
            return "not ready", reason
        case "member_joined":
            return "joined", f"{fields['member']} at {fields['rpc_addr']}"
        case "member_updated":
            return "moved", f"{fields['member']} is now at {fields['rpc_addr']}"
        case "member_failed":
            return "failed", f"{fields['member']} no longer answers"
        case "member_left":
            return "left", f"{fields['member']} left the cluster"
        case "pull_started":
            return "pulling", f"{line.node_id} <- {fields['source']}"
        case "pull_stopped":
            return "stopped", f"{line.node_id} <- {fields['source']}{f' ({reason})' if reason else ''}"
        case "cycle_seen":
            fate = "dropped" if fields.get("broken") else "appended once more"
            return "cycle seen", f"{' -> '.join(fields['path'])} ({_batches(fields['count'])} {fate})"
        case "leader_changed":
            leader, term = fields.get("leader"), fields["term"]
            if not leader and not term:
                return None  # a node that begins
            return "leader", f"{leader} leads term {term}" if leader else f"nobody yet in term {term}"
        case "voters_changed":
            return ("voters", ", ".join(fields["voters"])) if fields["voters"] else None
        case "node_failed" | "name_clashed":
            return "failed", reason
        case "node_warned" | "ready_file_failed" | "shutdown_forced":
            return "warning", reason
        case "":
            return "said", str(fields.get("text", ""))
        case _:
            return None


def _batches(count: int) -> str:
    return "1 batch" if count == 1 else f"{count} batches"
