"""Judging on another machine: `check` runs there, in parts side by side; here its streams become the files of one run.

A part whose stream ends without an end line is lost: so is the test that it was at; what it had not begun is not run.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import selectors
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from probes.abi.record import Record
from probes.errors import CommandError
from probes.installation import TARGET, checkout
from probes.plugin.shard import Shard
from probes.plugin.stream import Reader
from probes.plugin.verdicts import Check, whole
from probes.report import failure
from probes.report.expectations import Expectations
from probes.report.reader import key_text
from probes.report.writer import Counts, Writer, overall

#: Seconds from the start of `check` there to its first test.
START_DEADLINE = 600.0
#: Seconds that a test may outlive its own deadline before the machine is taken for hung.
GRACE = 60.0
_TICK = 1.0
#: How lines begin that say why: ours, and pytest's.
_ERRORS = ("socketcall: ", "ERROR: ")
#: Variables of ours that mean the same there.
_VARIABLES = re.compile(r"(SOCKETCALL|HYPOTHESIS)_(?!CACHE|KERNEL)\w+")
#: Options of check that mean the same there.
_PASSED_ON = ("route", "gate", "case", "reference", "isolation", "deadline")


def admitted(args: argparse.Namespace) -> Expectations:
    """What a run was told to expect. Raises CommandError: wrong arguments, before a machine is started."""
    if args.list:
        raise CommandError("--list: what would run is the same everywhere; ask `socketcall check --list` here")
    if "--pdb" in args.rest:
        raise CommandError("--pdb: there is nobody to ask on another machine; log in and run `socketcall check` there")
    if args.tests and not Path(args.tests).resolve().is_relative_to(checkout()):
        raise CommandError(f"--tests: {args.tests} is not in {checkout()}, and only that is copied; put it there")
    return Expectations.of(args.expect, args.require, args.write_expect)


@dataclass(frozen=True)
class Machine:
    """Somewhere that the suite is installed. `command` makes the command line that runs a shell script there; `checkout`
    and `python` are paths there; `parts` is how many runs share the work. `gone` tells why the machine is no more, None
    while nothing speaks against it; `last_words` are lines of its console."""

    name: str
    command: Callable[[str], list[str]]
    checkout: str
    python: str
    parts: int = 1
    gone: Callable[[], str | None] = lambda: None
    last_words: Callable[[], list[str]] = list


@dataclass
class _Part:
    """One stream: what it planned and has not told, and what it is at."""

    process: subprocess.Popen[bytes]
    errors: IO[bytes]
    reader: Reader = field(default_factory=Reader)
    began: bool = False
    ended: bool = False
    #: Nothing more will be heard: its stream is at an end, whole or not.
    closed: bool = False
    hung: bool = False
    fault: str = ""
    waiting: dict[str, Check] = field(default_factory=dict)
    at: list[str] = field(default_factory=list)
    limit: float = START_DEADLINE
    heard: float = field(default_factory=time.monotonic)

    def said(self) -> str:
        """The last error that it wrote beside its stream, or the last line."""
        self.errors.seek(0)
        lines = [line for line in self.errors.read().decode(errors="replace").splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith(_ERRORS)]
        last = next(reversed(errors or lines), "without a word").strip()
        return next((last.removeprefix(start) for start in _ERRORS if last.startswith(start)), last)

    def notice_silence(self) -> bool:
        """Whether it has been silent for so long that it hangs."""
        quiet = time.monotonic() - self.heard
        if not self.closed and quiet > self.limit:
            self.hung, self.fault = True, f"nothing was heard for {quiet:.0f} s"
        return self.hung


class Judge:
    """Takes the streams of one run and writes its files."""

    def __init__(self, machine: Machine, args: argparse.Namespace, policy: Expectations) -> None:
        self._machine, self._args, self._policy = machine, args, policy
        self._writer: Writer | None = None
        self._parts: list[_Part] = []
        self._open = ExitStack()
        self._counts = Counts()
        #: When the first test began (time.monotonic), None until then.
        self.first: float | None = None
        self._planned = 0
        self._told = 0
        self._seed = secrets.randbelow(1 << 31) if args.seed is None else args.seed

    def run(self) -> int:
        """The exit status of the whole. Raises CommandError if it could not begin."""
        with ExitStack() as self._open:
            interrupted = False
            try:
                self._start()
                self._listen()
            except KeyboardInterrupt:
                interrupted = True
            finally:
                for part in self._parts:
                    part.process.kill()
                    part.process.wait()
            return self._end(interrupted)

    def _end(self, interrupted: bool) -> int:
        if self._writer is not None and any(part.began for part in self._parts):
            status = self._finish(self._writer, interrupted)
            return 130 if interrupted else status
        if self._writer is not None:
            self._writer.discard()
        if interrupted:
            return 130
        part = self._parts[0]
        why = self._machine.gone() or part.fault or part.said()
        raise CommandError(f"{self._machine.name}: the run did not begin: {self._with_last_words(why)}")

    # Starting

    def _start(self) -> None:
        for number in range(self._machine.parts):
            errors = self._open.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 — it is entered
            command = self._machine.command(_script(self._machine, self._args, self._seed, number))
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)
            self._parts.append(_Part(process, errors))
            assert process.stdout is not None
            self._open.callback(process.stdout.close)

    # Listening

    def _listen(self) -> None:
        with selectors.DefaultSelector() as selector:
            for part in self._parts:
                selector.register(_pipe(part), selectors.EVENT_READ, part)
            while selector.get_map():
                for ready, _ in selector.select(_TICK):
                    if not self._hear(ready.data):
                        selector.unregister(ready.fd)
                if self._machine.gone():
                    # What was told before the end is still on its way.
                    for ready, _ in selector.select(0):
                        self._hear(ready.data)
                    return
                if self._hung() or self._enough():
                    return

    def _hear(self, part: _Part) -> bool:
        data = os.read(_pipe(part), 1 << 16)
        try:
            for line in part.reader.lines(data):
                part.heard = time.monotonic()
                self._take(part, line)
        except ValueError as error:
            part.fault = f"its stream broke off: {error}"
        part.closed = not data or (part.began and part.ended) or bool(part.fault)
        return not part.closed

    def _hung(self) -> bool:
        hung = [part for part in self._parts if part.notice_silence()]  # all of them: each has its verdict
        return bool(hung)

    def _enough(self) -> bool:
        return self._args.fail_fast and self._counts.status() == 1

    def _take(self, part: _Part, line: dict[str, Any]) -> None:
        kind = line.pop("type")
        if kind == "run":
            self._writer = self._writer or self._opened(line)
        elif kind == "planned":
            part.began, part.waiting, part.limit = True, line["tests"], line["deadline"] + GRACE
            self._planned += len(part.waiting)
        elif kind == "started":
            part.at = [line["test"]]
            self.first = self.first or time.monotonic()
        elif kind == "test":
            test = line.pop("test")
            part.waiting.pop(test, None)
            part.at = []
            self._told += 1
            self._write(line)
        elif kind == "end":
            part.ended = True
        self._progress()

    def _opened(self, facts: dict[str, Any]) -> Writer:
        try:
            return Writer(Path(self._args.report).absolute(), facts)
        except OSError as error:
            why = f"cannot write to {self._args.report}: {error.strerror}; give another --report"
            raise CommandError(why) from error

    def _write(self, carried: dict[str, Any]) -> None:
        assert self._writer is not None
        self._policy.mark(carried["checks"])
        for check in carried["checks"]:
            self._counts.add(check)
            self._policy.count(check)
            if check["verdict"] in ("deviates", "broke") and "known" not in check:
                self._show(check, carried)
            elif check["verdict"] == "lost":
                self._print(f"{key_text(check)}: lost: {check['detail']}")
        self._writer.add(carried)

    # Telling

    def _show(self, check: Check, carried: dict[str, Any]) -> None:
        records = [Record.of_json(line) for line in carried["evidence"] if line.get("type") == "call"]
        rests_on = [record for record in records if record.seq in check["seq"]]
        context = {**carried["behaviour"], "seed": self._seed, "target": self._machine.name}
        self._print(failure.text(check, rests_on, context) + "\n")

    def _print(self, text: str) -> None:
        """Prints in place of the line of progress."""
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr, flush=True)
        print(text, flush=True)

    def _progress(self) -> None:
        if sys.stderr.isatty():
            total, wrong = self._counts.all.total(), self._counts.all["deviates"] - self._counts.known
            state = f"{self._told} of {self._planned} tests, {total} checks, {wrong} deviate"
            print(f"\r\033[K{self._machine.name}: {state}", end="", file=sys.stderr, flush=True)

    # Ending

    def _finish(self, writer: Writer, interrupted: bool) -> int:
        """Says what was lost and what did not run, puts the files into place, and returns the exit status."""
        for part in self._parts:
            # One that we ended with the others is not lost.
            over = part.ended or interrupted or self._enough() or not (self._machine.gone() or part.closed or part.hung)
            why = "" if over else self._reason(part)
            for test, key in part.waiting.items():
                verdict = "lost" if why and test in part.at else "not_run"
                check = {**whole(key, verdict, why or "the run ended first"), "seq": []}
                self._write({"checks": [check], "evidence": [], "behaviour": None})
        writer.finish(self._counts)
        status, problems = self._policy.finish()
        absent = [f"a part of the run did not begin: {self._reason(part)}" for part in self._parts if not part.began]
        self._print("\n".join([*problems, *absent, self._counts.line()]))
        return overall(status, self._counts.status(), 3 if absent else 0)

    def _reason(self, part: _Part) -> str:
        """Why a stream has no end."""
        why = self._machine.gone() or part.fault or f"its stream broke off: {part.said()}"
        return self._with_last_words(why)

    def _with_last_words(self, why: str) -> str:
        return "; ".join([why, *(f"console: {line}" for line in self._machine.last_words())])


def _pipe(part: _Part) -> int:
    assert part.process.stdout is not None
    return part.process.stdout.fileno()


def _script(machine: Machine, args: argparse.Namespace, seed: int, number: int) -> str:
    """The shell script that runs one part there: its stream on stdout, everything else on stderr."""
    shard = (args.shard or Shard(1, 1)).part(number, machine.parts)
    given = {name: getattr(args, name) for name in _PASSED_ON}
    given |= {"seed": seed, "shard": shard, "stream": 3, "report": ""}
    if args.tests:
        given["tests"] = os.path.relpath(args.tests, checkout())
    words = [machine.python, "-P", "-m", "probes.cli.main", "check", *args.ids]
    words += [f"--{name}={value}" for name, value in given.items() if value is not None]
    words += ["--fail-fast"] * args.fail_fast + ["--", *args.rest] * bool(args.rest)
    passed = {name: value for name, value in os.environ.items() if _VARIABLES.fullmatch(name)}
    variables = passed | {TARGET: machine.name, "PYTHONPATH": machine.checkout}
    pairs = " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
    return f"cd {machine.checkout} && {pairs} exec {shlex.join(words)} 3>&1 1>&2"
