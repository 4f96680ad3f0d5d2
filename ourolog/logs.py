"""Logs of a node: one line an event, on stderr, JSON unless a person watches.

`event` is a stable name (`member_joined`); everything that varies is in fields of its own, so that
a machine never has to take a sentence apart. Sentences for people are in the field `reason`.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from typing import Final, TextIO

import structlog

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("auto", "json", "text")


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
        if isinstance(record.msg, dict):  # an event, on its way through structlog
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
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=stream.isatty() and not os.environ.get("NO_COLOR"))
        if as_text
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    handler = logging.StreamHandler(stream)
    handler.addFilter(LibraryLimit())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Whoever read the logs may be gone; a node does not stop, or fill its disk with tracebacks, for that.
    logging.raiseExceptions = False
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
