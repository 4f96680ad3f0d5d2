"""A run as one self-contained HTML file: what happened, where, when, and what led to it.

`Recorder` watches the event stream and keeps a bounded window of it; `render_report` makes the page.
"""

from __future__ import annotations

from ourolog.simulation.report.page import Header, render_report
from ourolog.simulation.report.recorder import Recorder

__all__ = ["Header", "Recorder", "render_report"]
