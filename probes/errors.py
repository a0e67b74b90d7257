"""Define the error by which a command ends with one line: what failed, why, and what to do."""

from __future__ import annotations


class CommandError(Exception):
    """Ends a command with one line on stderr and an exit status: 2, or 3 where a run had begun."""

    def __init__(self, text: str, status: int = 2) -> None:
        """Holds the line and the status."""
        super().__init__(text)
        self.status = status
