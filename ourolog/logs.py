"""Logs of a node: one line an event, on stderr, JSON unless a person watches.

`event` is a stable name (`member_joined`); everything that varies is in fields of its own, so that
a machine never has to take a sentence apart. Sentences for people are in the field `reason`.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TextIO

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("auto", "json", "text")


class EventLog:
    """What a process logs of its own: events, each with the same first fields."""

    def __init__(self, logger: logging.Logger, **fields: Any) -> None:
        """Log events by `logger`. `fields`: what stands in each of them."""
        self._logger = logger
        self._fields = fields

    def log(self, level: int, event: str, **fields: Any) -> None:
        """Log the event of that name, where this level (one of `logging`) is logged."""
        self._logger.log(level, {**self._fields, **fields, "event": event})

    def info(self, event: str, **fields: Any) -> None:
        self.log(logging.INFO, event, **fields)

    def warning(self, event: str, **fields: Any) -> None:
        self.log(logging.WARNING, event, **fields)

    def error(self, event: str, **fields: Any) -> None:
        self.log(logging.ERROR, event, **fields)


class EventFormatter(logging.Formatter):
    """Makes one line, as `render` has it, of an event, and of what a library says, which becomes an event, too."""

    def __init__(self, render: Callable[[dict[str, Any]], str]) -> None:
        super().__init__()
        self._render = render

    def format(self, record: logging.LogRecord) -> str:
        fields = dict(record.msg) if isinstance(record.msg, dict) else {"event": record.getMessage()}
        if record.stack_info:
            fields["stack_info"] = record.stack_info
        fields["level"] = record.levelname.lower()
        fields["timestamp"] = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return self._render(fields)


class LibraryLimit(logging.Filter):
    """What libraries log, and what is logged of bugs: the first of each kind, then one in five minutes.

    This node's own events pass; they have bounds of their own.
    """

    def __init__(self, again_after_s: float = 300.0, max_kinds: int = 64) -> None:
        super().__init__()
        self._again_after_s = again_after_s
        self._max_kinds = max_kinds
        self._kinds: dict[tuple[str, int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.msg, dict):  # an event
            return True
        if str(record.msg).startswith(_OF_STRANGERS):
            return False
        kind = (record.name, record.levelno, _NO_WORD.sub("", str(record.msg)[:200])[:40])
        if kind not in self._kinds and len(self._kinds) >= self._max_kinds:
            kind = ("", 0, "")
        until_s, held_back = self._kinds.get(kind, (0.0, 0))
        now_s = time.monotonic()
        if now_s < until_s:
            self._kinds[kind] = (until_s, held_back + 1)
            return False
        self._kinds[kind] = (now_s + self._again_after_s, 0)
        if held_back:
            record.msg = f"{record.msg} ({held_back} more like this were not logged)"
        return True


# gRPC logs a traceback for every header that is not UTF-8, and for an answer whose caller went, or whose time was up,
# while it was being sent. That is a stranger's doing, not the node's.
_OF_STRANGERS: Final = ("Invalid encoding on", "ExecuteBatchError raised in core by servicer method")
_NO_WORD: Final = re.compile(r"[^A-Za-z ]+")


def configure_logs(level: str, log_format: str, stream: TextIO | None = None) -> None:
    """Send this process's logs, libraries' own among them, to stderr (or `stream`).

    log_format: `json`, `text`, or `auto` for text on a terminal and JSON elsewhere. Colours only
    on a terminal and without NO_COLOR (no-color.org).
    """
    stream = stream or sys.stderr
    as_text = log_format == "text" or (log_format == "auto" and stream.isatty())
    coloured = stream.isatty() and not os.environ.get("NO_COLOR")
    handler = logging.StreamHandler(stream)
    handler.addFilter(LibraryLimit())
    handler.setFormatter(EventFormatter(_text_renderer(coloured=coloured) if as_text else _as_json))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Whoever read the logs may be gone; a node does not stop, or fill its disk with tracebacks, for that.
    logging.raiseExceptions = False


def _as_json(fields: dict[str, Any]) -> str:
    return json.dumps(fields, default=repr, ensure_ascii=False)


def _text_renderer(*, coloured: bool) -> Callable[[dict[str, Any]], str]:
    # Loaded where a person watches, and not for a node that runs as a service: with all that it loads it takes as
    # long as a third of what such a node takes to start.
    from structlog.dev import ConsoleRenderer, plain_traceback

    renderer = ConsoleRenderer(colors=coloured, exception_formatter=plain_traceback)

    def render(fields: dict[str, Any]) -> str:
        return str(renderer(None, "", fields))

    return render
