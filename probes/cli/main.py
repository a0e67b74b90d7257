"""Parses the command line of `socketcall` and runs the command: probes/cli/NAME.py for `socketcall NAME`.

Only the module of the command that was given is imported, so `--version` and `capture` need neither pytest nor targets.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn, Protocol, cast

from probes import VERSION
from probes.errors import CommandError

COMMANDS = {
    "doctor": "report what this machine can do, what is missing, and how to get it",
    "check": "judge the documented behaviours on this kernel",
    "behaviours": "list the catalogue: id, statement, source; --json has more",
    "capture": "show the socket calls of any program, as they cross into the kernel",
    "diff": "compare two runs: exit status 1 if they differ",
    "views": "write ktap.txt, junit.xml, report.html and wire/ of a report directory again",
    "target": "check on another machine, and build what that needs",
}
"""Every command, with what it does."""


class _Command(Protocol):
    """Stands for the module of a command."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Adds the arguments of the command to its parser."""

    def main(self, args: argparse.Namespace) -> int:
        """Runs the command, and returns the exit status. Raises CommandError."""


class _Parser(argparse.ArgumentParser):
    """Reports wrong arguments in one line."""

    def error(self, message: str) -> NoReturn:
        """Prints the message and the command that shows the help, and exits with status 2."""
        self.exit(2, f"{self.prog}: {message}; see `{self.prog} --help`\n")


def _parser(name: str | None) -> argparse.ArgumentParser:
    """Returns the parser, which knows the arguments of one command."""
    parser = _Parser(prog="socketcall", description="Conformance suite for the i386 Linux socket system calls.")
    parser.add_argument("--version", action="version", version=f"socketcall {VERSION}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    for command, text in COMMANDS.items():
        added = commands.add_parser(command, help=text, description=text)
        if command == name:
            module = cast(_Command, importlib.import_module(f"probes.cli.{command}"))
            added.set_defaults(run=module.main)
            module.add_arguments(added)
    return parser


def parsed(words: Sequence[str]) -> argparse.Namespace:
    """Parses the words of a command line; those after -- are `rest`, unparsed. Wrong arguments exit with status 2."""
    words = list(words)
    cut = words.index("--") if "--" in words else len(words)
    # The command is the first word that is not an option: options before it have no value.
    name = next((word for word in words[:cut] if not word.startswith("-")), None)
    args = _parser(name).parse_args(words[:cut])
    args.rest = words[cut + 1 :]
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status."""
    args = parsed(sys.argv[1:] if argv is None else argv)
    try:
        status: int = args.run(args)
        sys.stdout.flush()
    except CommandError as error:
        print(f"socketcall: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # `| head` has read enough. Python flushes stdout at exit: that must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    return status
