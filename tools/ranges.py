"""Names the largest behaviours of a run for which docs/ranges.md does not state what their members tell apart.

python -m tools.ranges RESULTS
"""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from probes.errors import CommandError
from probes.installation import checkout
from probes.report.check import Key
from probes.report.reader import keys_of
from tools.command import run

#: How many behaviours the page must state.
LARGEST = 40
_HEADING = "## The behaviours with most checks\n"


def stated() -> list[str]:
    """Return the ids, and globs of ids, in the second table of docs/ranges.md."""
    page = (checkout() / "docs" / "ranges.md").read_text(encoding="utf-8").partition(_HEADING)[2]
    cells = [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("|")]
    return cells[2:]


def missing(keys: Iterable[Key], globs: Iterable[str]) -> list[str]:
    """Return the largest behaviours of a run, by their checks, that none of the globs matches."""
    counts = Counter(key.id for key in keys)
    patterns = list(globs)
    return [
        f"{id}: {count} checks"
        for id, count in counts.most_common(LARGEST)
        if not any(fnmatch.fnmatchcase(id, pattern) for pattern in patterns)
    ]


def main(words: list[str]) -> int:
    """Prints what the page lacks; returns 1 if it lacks something. Raises CommandError."""
    if len(words) != 1:
        raise CommandError("usage: python -m tools.ranges RESULTS")
    lacking = missing(keys_of(Path(words[0])), stated())
    for line in lacking:
        print(f"docs/ranges.md does not state what tells the members apart of {line}")
    return 1 if lacking else 0


if __name__ == "__main__":
    run(main)
