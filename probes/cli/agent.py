"""Implements `socketcall agent`: writes the agent, a static i386 program, to a file."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

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
        _write(sys.stdout.fileno())
        return 0
    try:
        # As a shell's > does, but for the mode of a new file.
        descriptor = os.open(args.output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o777)
    except OSError as error:
        raise CommandError(f"-o {args.output}: {error.strerror}; name a file that can be written") from error
    try:
        _write(descriptor)
    except OSError as error:
        raise CommandError(f"-o {args.output}: {error.strerror}; free space, or name another file", 3) from error
    finally:
        os.close(descriptor)
    return 0


def _write(descriptor: int) -> None:
    rest = memoryview(PROGRAM)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
