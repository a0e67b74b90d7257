"""Counts the calls of a capture that was made before: `socketcall capture --summary-of FILE`."""

from __future__ import annotations

import argparse
import json
import sys

from probes.cli.capture_options import keep
from probes.cli.capture_sink import Sink
from probes.errors import CommandError
from probes.report import capture as formats
from probes.trace.spawn import CannotCapture

#: Options that say nothing of a capture that was made before.
_NOT_OF_A_FILE = (
    "expressions", "fd", "addr", "port", "path", "successful", "failed", "errno", "compare", "inject", "tree",
)  # fmt: skip


def summary(args: argparse.Namespace) -> int:
    """Writes the counts of a capture that was made before. Raises CommandError."""
    if args.rest or args.pid:
        raise CommandError("capture: --summary-of reads a file: leave out the program and -p")
    if any(getattr(args, name) for name in _NOT_OF_A_FILE):
        raise CommandError("capture: --summary-of counts all calls of a file: leave out what chooses or changes calls")
    keep(args.summary_of, args.output)
    try:
        with args.summary_of.open(encoding="utf-8", errors="replace") as lines:
            counts = formats.counted(lines)
    except OSError as error:
        raise CommandError(f"capture: cannot read {args.summary_of}: {error.strerror}; name a capture") from error
    except ValueError as error:
        raise CommandError(f"capture: {args.summary_of}: {error}; name what --format jsonl wrote") from error
    written = map(json.dumps, formats.as_json(counts)) if args.format == "jsonl" else [formats.table(counts)]
    sink = Sink(args.output) if args.output else None
    if sink is None:
        sys.stdout.writelines(f"{line}\n" for line in written)
        return 0
    try:
        sink.open()
        for line in written:
            sink.write(line)
    except CannotCapture as error:
        raise CommandError(f"capture: {error}") from error
    sink.close()
    return 0
