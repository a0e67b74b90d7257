"""The options of `socketcall check` and of the pytest plugin, in one table.

The command line, the plugin and the launcher of remote runs are built from it. It imports neither pytest nor anything
that does, so that a command line is parsed before either is needed.
"""

from __future__ import annotations

import re
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from probes.plugin.shard import Shard

#: The longest deadline of a test: setitimer(2) takes more, people do not wait for it.
_LONGEST = 86400.0
_WORDS = 1 << 64


def _seconds(text: str) -> float:
    """Parses the value of --deadline. Raises ArgumentTypeError."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    # Not a number compares False with everything.
    if not 0 < found <= _LONGEST:
        raise ArgumentTypeError(f"{text[:40]!r} is not a number of seconds from above 0 to {_LONGEST:.0f}")
    return found


def _natural(text: str) -> int:
    """Parses a number that is not negative and has at most 64 bits. Raises ArgumentTypeError."""
    if not re.fullmatch(r"[0-9]{1,20}", text) or int(text) >= _WORDS:
        raise ArgumentTypeError(f"{text[:40]!r} is not a number from 0 to 2^64-1")
    return int(text)


#: The value of --workers that asks for a worker for each CPU.
AUTO = "auto"


def _count(text: str) -> int | str:
    """Parses the value of --workers. Raises ArgumentTypeError."""
    if text == AUTO:
        return AUTO
    if not re.fullmatch(r"[0-9]{1,9}", text) or not int(text):
        raise ArgumentTypeError(f"{text[:40]!r} is not a number of processes from 1")
    return int(text)


@dataclass(frozen=True)
class Option:
    """Describes one option.

    `chooses`: it selects the tests that run, so `check --list` takes it too. `command`: `socketcall check` has it;
    `plugin`: the pytest plugin has it. `remote`: it goes to another machine unchanged. The other options concern files
    and parts of the run, which the machine that started the run handles.
    """

    name: str
    help: str
    metavar: str | None = None
    type: Callable[[str], object] | None = None
    choices: Sequence[str] = ()
    default: object = None
    #: The default of `socketcall check`, if that is not the plugin's.
    command_default: object = None
    #: It takes no value.
    flag: bool = False
    #: It may be given several times, and its value is a list.
    repeated: bool = False
    #: Its value if it is given without one.
    const: str | None = None
    #: Its short form on the command line of `socketcall check`.
    short: str = ""
    chooses: bool = False
    command: bool = True
    plugin: bool = True
    remote: bool = False

    @property
    def destination(self) -> str:
        """Returns the name of the attribute that parsers put the value in."""
        return self.name.replace("-", "_")

    def words(self, value: object) -> list[str]:
        """Returns the words of a command line that set this value; none for the value that it has without them."""
        if self.flag:
            return [f"--{self.name}"] if value else []
        if value is None or value == self.default:
            return []
        return [f"--{self.name}" if value == self.const else f"--{self.name}={value}"]

    def _declaration(self, default: object) -> dict[str, Any]:
        """Returns the keyword arguments of add_argument()."""
        if self.flag:
            return {"action": "store_true", "help": self.help}
        declared: dict[str, Any] = {"help": self.help, "default": default, "metavar": self.metavar}
        if self.repeated:
            declared["action"] = "append"
        if self.type is not None:
            declared["type"] = self.type
        if self.choices:
            declared["choices"] = tuple(self.choices)
        if self.const is not None:
            declared |= {"nargs": "?", "const": self.const}
        return declared

    def add_to(self, parser: _Parser) -> None:
        """Adds it to the parser of `socketcall check`."""
        default = self.default if self.command_default is None else self.command_default
        names = [f"-{self.short}"] * bool(self.short) + [f"--{self.name}"]
        parser.add_argument(*names, **self._declaration(default))

    def add_to_pytest(self, group: _Group) -> None:
        """Adds it to pytest's options."""
        group.addoption(f"--{self.name}", **self._declaration(self.default))


class _Parser(Protocol):
    """Stands for argparse.ArgumentParser."""

    def add_argument(self, *names: str, **declaration: Any) -> object:
        """Adds an option."""


class _Group(Protocol):
    """Stands for pytest.OptionGroup."""

    def addoption(self, *names: str, **declaration: Any) -> None:
        """Adds an option."""


OPTIONS = (
    Option("behaviour", "judge only behaviours whose id matches", "GLOB", repeated=True, chooses=True, command=False),
    Option("caller", "what makes the calls: the test's own Python, or a 32-bit agent that it drives (default: both where "
           "Python is 64-bit)", choices=("python", "agent"), chooses=True, remote=True),
    Option("via", "a command that runs the agent, {agent} in it, on another implementation: 'qemu-i386-static {agent}'",
           "COMMAND", chooses=True, remote=True),
    Option("via-tty", "a terminal device or Unix socket: the line to a machine that runs the agent on it, or will", "PATH",
           chooses=True, remote=True),
    Option("boot", "a command that boots a machine whose process 1 is the agent, on its standard input and output; {initrd} "
           "in it is an initramfs, {agent} the program", "COMMAND", chooses=True, remote=True),
    Option("implementation", "the name of what answers the calls (default: by --via, the name of its command)", "NAME",
           remote=True),
    Option("route", "judge only over this route", choices=("socketcall", "direct"), chooses=True, remote=True),
    Option("gate", "judge only through this gate", choices=("int80", "vdso"), chooses=True, remote=True),
    Option(
        "only", "judge only behaviours with this tag", "TAG", choices=("abi", "implementation"), chooses=True,
        remote=True,
    ),
    Option("case", "judge only checks whose case matches", "GLOB", remote=True),
    Option("shard", "run only the I-th of N parts", "I/N", Shard.of, chooses=True),
    Option("seed", "repeat the random values of a run (default: a new one, in summary.json)", "N", _natural),
    Option("workers", "processes that run tests side by side (default of check: auto, one for each CPU)", "N", _count,
           command_default=AUTO, short="n"),
    Option("report", "write the files of the run to this directory (default of check: report)", "DIR",
           command_default="report"),
    Option("evidence", "keep the evidence of all checks, or of those that are not as expected", choices=("all", "failing"),
           default="all"),
    Option("expect", "known deviations: lines of ID-GLOB | CASE-GLOB | reason", "FILE"),
    Option("write-expect", "write the deviations of this run as such a list", "FILE"),
    Option("require", "fail if anything is not applicable, except the ids of FILE", "FILE", const=""),
    Option("stream", "write the run as JSON lines, as it happens, to this descriptor", "FD", _natural),
    Option("reference", "judge against i386-6.1, ia32-compat-6.1, …, or local, this kernel, the default but by --via",
           "ABI-VERSION", remote=True),
    Option("isolation", "namespaces that the sandbox makes itself (default: the most that works, printed if not full)",
           choices=("full", "net", "none"), remote=True),
    Option("deadline", "seconds that a test may take (default: by the speed of the machine)", "S", _seconds, remote=True),
    Option("fail-fast", "stop at the first deviation", flag=True, plugin=False, remote=True),
    Option("list", "print what would run, and end", flag=True, plugin=False),
    Option("tests", "judge the behaviours of this directory (default: the checkout's tests/)", "DIR", plugin=False),
    Option("no-progress", "print failures and counts only", flag=True, command=False),
    Option("progress-line", "print one line in place of dots, written over", flag=True, command=False),
)  # fmt: skip
"""Every option, in the order in which `--help` shows them."""


def add_to_pytest(group: _Group) -> None:
    """Adds the plugin's options to a group of pytest's options."""
    for option in OPTIONS:
        if option.plugin:
            option.add_to_pytest(group)


def add_to_command(parser: _Parser) -> None:
    """Adds the options of `socketcall check` to its parser."""
    for option in OPTIONS:
        if option.command:
            option.add_to(parser)


def words(args: Namespace, wanted: Callable[[Option], bool]) -> list[str]:
    """Returns the words of a command line that repeat those values of the wanted options that were parsed."""
    return [
        word for option in OPTIONS if wanted(option) for word in option.words(getattr(args, option.destination, None))
    ]
