"""Implements `socketcall agent`: writes the agent, a static i386 program, to a file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from probes.cli import programs
from probes.entry.agent_start import PROGRAM
from probes.errors import CommandError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the output file."""
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="write there (default: standard output)")


def main(args: argparse.Namespace) -> int:
    """Writes the program: a new file is executable. Raises CommandError: it cannot be written, or is for a terminal."""
    if args.output is None:
        if sys.stdout.isatty():
            raise CommandError("standard output is a terminal, and the agent a program; name a file with -o")
        sys.stdout.flush()
        programs.write_all(sys.stdout.fileno(), PROGRAM)
        return 0
    programs.write(args.output, PROGRAM, 0o777)
    return 0
