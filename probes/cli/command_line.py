"""Parses the command line of `socketcall`: probes/cli/NAME.py adds the arguments of `socketcall NAME`.

Only the module of the command that was given is imported, so `--version` and `capture` need neither pytest nor targets.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any, NoReturn, Protocol, cast

from probes import VERSION
from probes.errors import CommandError, nearest

COMMANDS = {
    "doctor": "report what this machine can do, what is missing, and how to get it",
    "check": "judge the documented behaviours on this kernel",
    "behaviours": "list the catalogue: id, statement, source; --json has more",
    "capture": "show the socket calls of any program, as they cross into the kernel",
    "sweep": "make the calls for every number of a space: operations, ports, types, families",
    "agent": "write the agent, a static i386 program that makes calls for a driver",
    "record": "write the calls of behaviours, with what is expected, as a C program or as one that prints KTAP",
    "diff": "compare two runs: exit status 1 if they differ",
    "matrix": "put runs on several targets side by side, as a page and a Markdown table",
    "views": "write ktap.txt, junit.xml, report.html and wire/ of a report directory again",
    "target": "check on another machine, and build what that needs",
}
"""Every command, with what it does."""
EXAMPLES = {
    "doctor": "socketcall doctor",
    "check": "socketcall check 'bind.*' --report report",
    "behaviours": "socketcall behaviours --json",
    "capture": "socketcall capture -o calls.txt -- curl http://127.0.0.1/",
    "sweep": "socketcall sweep operations --range 0..0xffff -o swept.json",
    "agent": "socketcall agent -o agent",
    "record": "socketcall record 'socket.pair.*' -o pair.c",
    "diff": "socketcall diff report.old report",
    "matrix": "socketcall matrix report-local report-qemu -o matrix",
    "views": "socketcall views report",
    "target": "socketcall target run qemu-user:bookworm -- 'socket.pair.*'",
}
"""A command line of each, which ends its help."""
_WITH_REST = ("check", "capture", "target")
"""The commands for which words follow --."""


class _Command(Protocol):
    """Stands for the module of a command."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Adds the arguments of the command to its parser."""

    def main(self, args: argparse.Namespace) -> int:
        """Runs the command, and returns the exit status. Raises CommandError."""


class _Parser(argparse.ArgumentParser):
    """Reports wrong arguments in one line, and what cannot be written. `example`, one or several lines, ends the help."""

    example = ""

    def format_help(self) -> str:
        """Returns the help."""
        if "\n" in self.example:
            lines = "".join(f"  {line}\n" for line in self.example.splitlines())
            return f"{super().format_help()}\nexamples:\n{lines}"
        return super().format_help() + (f"\nexample: {self.example}\n" if self.example else "")

    def _print_message(self, message: str, file: Any = None) -> None:
        """Prints help, or the version. Raises OSError, which argparse drops."""
        (file or sys.stdout).write(message)

    def error(self, message: str) -> NoReturn:
        """Raises CommandError, which names the command that shows the help."""
        name = self.prog.removeprefix("socketcall").strip()
        raise CommandError(f"{f'{name}: ' if name else ''}{message}; see `{self.prog} --help`")


def parser(name: str | None) -> argparse.ArgumentParser:
    """Returns the parser, which knows the arguments of one command."""
    whole = _Parser(prog="socketcall", description="Conformance suite for the i386 Linux socket system calls.")
    whole.add_argument("--version", action="version", version=f"socketcall {VERSION}")
    commands = whole.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    for command, text in COMMANDS.items():
        added = commands.add_parser(command, help=text, description=text)
        if command == name:
            module = cast(_Command, importlib.import_module(f"probes.cli.{command}"))
            added.set_defaults(run=module.main)
            added.example = EXAMPLES[command]
            module.add_arguments(added)
    return whole


def parsed(words: Sequence[str]) -> argparse.Namespace:
    """Parses the words of a command line; those after -- are `rest`, unparsed. Raises CommandError."""
    words = list(words)
    cut = words.index("--") if "--" in words else len(words)
    # The command is the first word that is not an option: options before it have no value.
    name = next((word for word in words[:cut] if not word.startswith("-")), None)
    if name is not None and name not in COMMANDS:
        raise CommandError(f"no command is called {name!r}: {', '.join(COMMANDS)}{nearest(name, COMMANDS)}")
    args = parser(name).parse_args(words[:cut])
    args.rest = words[cut + 1 :]
    if args.rest and name not in _WITH_REST:
        raise CommandError(f"{name}: nothing can follow --; see `socketcall {name} --help`")
    return args
