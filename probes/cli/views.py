"""Implements `socketcall views`: writes the other formats of a run again."""

from __future__ import annotations

import argparse
from pathlib import Path

from probes.report.writer import write_views


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the report directory."""
    parser.add_argument("directory", metavar="DIR", help="a report directory")


def main(args: argparse.Namespace) -> int:
    """Writes ktap.txt, junit.xml, report.html and wire/*.pcapng. Raises CommandError: damaged files."""
    write_views(Path(args.directory))
    return 0
