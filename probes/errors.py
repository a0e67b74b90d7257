"""Define the error by which a command ends with one line: what failed, why, and what to do; and what was meant."""

from __future__ import annotations

from collections.abc import Iterable


class CommandError(Exception):
    """Ends a command with one line on stderr and an exit status: 2, or 3 where a run had begun."""

    def __init__(self, text: str, status: int = 2) -> None:
        """Holds the line and the status."""
        super().__init__(text)
        self.status = status


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the end of a line about an unknown word: "; did you mean …?" if a known one resembles it, otherwise ""."""
    # Only a command that fails needs the module.
    from difflib import get_close_matches

    return "".join(f"; did you mean {meant!r}?" for meant in get_close_matches(word, list(known), 1, 0.75))


def no_behaviour(glob: str, ids: Iterable[str]) -> str:
    """Return the line about an id or a glob that matches no behaviour."""
    known = set(ids)
    for id in sorted(known):
        parts = id.split(".")
        known.update(".".join([*parts[:size], "*"]) for size in range(1, len(parts)))
    return f"no behaviour matches {glob!r}{nearest(glob, known) or '; `socketcall behaviours` lists them'}"
