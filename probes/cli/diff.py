"""Implements `socketcall diff`: compares two runs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from probes.report.diff import as_json, compare, text
from probes.report.reader import read


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the two runs and the options."""
    parser.add_argument("old", metavar="OLD", help="a report directory, or its results.jsonl.gz")
    parser.add_argument("new", metavar="NEW")
    parser.add_argument("--json", action="store_true", help="as one JSON object")


def main(args: argparse.Namespace) -> int:
    """Prints what changed between two runs, and returns 1 if something did. Raises CommandError: damaged files."""
    found = compare(read(Path(args.old)), read(Path(args.new)))
    print(json.dumps(as_json(found), indent=1) if args.json else text(found), end="\n" if args.json else "")
    return 1 if found else 0
