"""Writes a capture as a page of HTML that needs nothing else: the JSON lines stand in it, and a script shows them."""

from __future__ import annotations

import html
from importlib.resources import files

#: Follows the last line. A page without it, of a capture that was killed, is shown as far as it goes.
END = "</script></body></html>\n"


def head(pid: int) -> str:
    """Returns the page up to the first line."""
    template = files("probes.report.formats").joinpath("capture.html").read_text(encoding="utf-8")
    return template.replace("{{ title }}", html.escape(f"socket calls of process {pid}"))
