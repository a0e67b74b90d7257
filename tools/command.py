"""Ends a maintainers' script as `socketcall` ends: an error is one line on stderr, and status 2."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NoReturn

from probes.errors import CommandError


def run(main: Callable[[list[str]], int]) -> NoReturn:
    """Runs a script on the arguments of the command line, and exits with the status that it returns."""
    try:
        sys.exit(main(sys.argv[1:]))
    except CommandError as error:
        print(f"socketcall: {error}", file=sys.stderr)
        sys.exit(2)
