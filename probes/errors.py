"""What every command says when it cannot: one line, what, why and what to do."""

from __future__ import annotations


class CommandError(Exception):
    """Ends a command with one line on stderr and exit status 2."""
