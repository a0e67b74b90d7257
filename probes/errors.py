"""Define the error by which a command ends with one line: what failed, why, and what to do."""

from __future__ import annotations


class CommandError(Exception):
    """Ends a command with one line on stderr and exit status 2."""
