"""Runs `check` on another machine, in parts side by side, and writes their streams as the files of one run.

A part whose stream ends without an end line is lost: the test that it was at is `lost`, those it had not begun are
`not_run`.
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
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from probes.errors import CommandError
from probes.installation import checkout
from probes.interrupts import deferred, status_of
from probes.plugin import options
from probes.plugin.shard import Shard
from probes.plugin.stream import Reader
from probes.report.check import Check, Json, Key
from probes.report.counts import overall
from probes.report.expectations import Expectations
from probes.report.judged_test import JudgedTest
from probes.report.machine_run import MachineRun
from probes.report.writer import Writer
from probes.targets.machine import Machine

#: Seconds from the start of `check` there to its first test.
START_DEADLINE = 600.0
#: Seconds beyond the deadline of a test after which a silent machine is taken to hang.
GRACE = 60.0
_TICK = 1.0
#: Prefixes of error messages on stderr: those of socketcall and of pytest.
_ERRORS = ("socketcall: ", "ERROR: ")
#: Variables that are passed on. The cache and the kernel are those of this machine.
_VARIABLES = re.compile(r"(SOCKETCALL|HYPOTHESIS)_(?!CACHE|KERNEL)\w+")


def expectations_of(args: argparse.Namespace) -> Expectations:
    """Returns what a run is expected to show. Raises CommandError: wrong arguments, before a machine is started."""
    if args.list:
        raise CommandError("--list: what would run is the same on every target; use `socketcall check --list`")
    if "--pdb" in args.rest:
        raise CommandError("--pdb: a remote run has no terminal; log in and run `socketcall check` there")
    if args.tests and not Path(args.tests).resolve().is_relative_to(checkout()):
        raise CommandError(f"--tests: {args.tests} is not in {checkout()}, and only that is copied; put it there")
    return Expectations.of(args.expect, args.require, args.write_expect)


@dataclass
class _Part:
    """Reads the stream of one part of the run."""

    process: subprocess.Popen[bytes]
    stderr: IO[bytes]
    reader: Reader = field(default_factory=Reader)
    began: bool = False
    ended: bool = False
    #: The stream is at its end, complete or not.
    closed: bool = False
    hung: bool = False
    fault: str = ""
    #: Tests that were planned and not yet reported.
    waiting: dict[str, Key] = field(default_factory=dict)
    #: The test that runs now.
    current: str = ""
    limit: float = START_DEADLINE
    heard: float = field(default_factory=time.monotonic)

    @property
    def descriptor(self) -> int:
        """Returns the descriptor of the stream."""
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def last_error(self) -> str:
        """Returns the last error that it wrote to stderr, or the last line."""
        self.stderr.seek(0)
        lines = [line for line in self.stderr.read().decode(errors="replace").splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith(_ERRORS)]
        last = next(reversed(errors or lines), "no message").strip()
        return next((last.removeprefix(start) for start in _ERRORS if last.startswith(start)), last)

    def hangs(self) -> bool:
        """Returns True if it has been silent for longer than its test may take."""
        quiet = time.monotonic() - self.heard
        if not self.closed and quiet > self.limit:
            self.hung, self.fault = True, f"no message for {quiet:.0f} s"
        return self.hung


class RemoteRun:
    """Runs the parts, and collects their streams."""

    def __init__(self, machine: Machine, args: argparse.Namespace, expectations: Expectations) -> None:
        """Prepares a run with the arguments of `socketcall check`; chooses the seed if they have none."""
        self._machine, self._args, self._expectations = machine, args, expectations
        self._run: MachineRun | None = None
        self._parts: list[_Part] = []
        self._open = ExitStack()
        #: When the first test began (time.monotonic), None until then.
        self.first: float | None = None
        self._planned = 0
        self._seed = secrets.randbelow(1 << 31) if args.seed is None else args.seed

    def run(self) -> int:
        """Runs to the end, and returns the exit status. Raises CommandError: the run did not begin."""
        with ExitStack() as self._open:
            interrupt: KeyboardInterrupt | None = None
            try:
                self._start()
                self._listen()
            except KeyboardInterrupt as error:
                interrupt = error
            finally:
                for part in self._parts:
                    part.process.kill()
                    part.process.wait()
            return self._end(interrupt)

    def _end(self, interrupt: KeyboardInterrupt | None) -> int:
        if self._run is not None and any(part.began for part in self._parts):
            with deferred():
                status = self._finish(self._run, interrupt is not None)
            return status if interrupt is None else status_of(interrupt)
        if self._run is not None:
            self._run.discard()
        if interrupt is not None:
            return status_of(interrupt)
        part = self._parts[0]
        why = self._machine.failure() or part.fault or part.last_error()
        raise CommandError(f"{self._machine.target.name}: the run did not begin: {self._with_console(why)}")

    # Starting

    def _start(self) -> None:
        for number in range(self._machine.parts):
            stderr = self._open.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 — it is entered
            command = self._machine.command(_script(self._machine, self._args, self._seed, number))
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr)
            self._parts.append(_Part(process, stderr))
            assert process.stdout is not None
            self._open.callback(process.stdout.close)

    # Listening

    def _listen(self) -> None:
        with selectors.DefaultSelector() as selector:
            for part in self._parts:
                selector.register(part.descriptor, selectors.EVENT_READ, part)
            while selector.get_map():
                for ready, _ in selector.select(_TICK):
                    if not self._receive(ready.data):
                        selector.unregister(ready.fd)
                if self._machine.failure():
                    # Messages from before the failure may still be in the pipes.
                    for ready, _ in selector.select(0):
                        self._receive(ready.data)
                    return
                if self._hung() or self._enough():
                    return

    def _receive(self, part: _Part) -> bool:
        """Takes what a part sent. Returns False if nothing more will come."""
        data = os.read(part.descriptor, 1 << 16)
        try:
            for line in part.reader.lines(data):
                part.heard = time.monotonic()
                self._take(part, line)
        except (ValueError, KeyError, TypeError) as error:
            part.fault = f"its stream is damaged: {error}"
        part.closed = not data or (part.began and part.ended) or bool(part.fault)
        return not part.closed

    def _hung(self) -> bool:
        hung = [part for part in self._parts if part.hangs()]  # all of them: each may be the one that hangs
        return bool(hung)

    def _enough(self) -> bool:
        return bool(self._args.fail_fast) and self._run is not None and self._run.counts.status() == 1

    def _take(self, part: _Part, line: dict[str, Json]) -> None:
        kind = line.pop("type")
        if kind == "run" and self._run is None:
            self._run = MachineRun(line, self._expectations, self._writer(line))
        elif self._run is not None:
            self._take_progress(self._run, part, kind, line)
        self._show_progress()

    def _take_progress(self, run: MachineRun, part: _Part, kind: str, line: dict[str, Json]) -> None:
        if kind == "planned":
            part.waiting = {test: Key.of_json(key) for test, key in line["tests"].items()}
            part.began, part.limit = True, line["deadline"] + GRACE
            run.plan(part.waiting)
            self._planned += len(part.waiting)
        elif kind == "started":
            part.current = line["test"]
            self.first = self.first or time.monotonic()
        elif kind == "test":
            part.waiting.pop(line["test"], None)
            part.current = ""
            self._report(run, line["test"], JudgedTest.of_json(line))
        elif kind == "end":
            part.ended = True

    def _writer(self, facts: dict[str, Json]) -> Writer:
        try:
            return Writer(Path(self._args.report).absolute(), facts, self._args.evidence)
        except OSError as error:
            why = f"cannot write to {self._args.report}: {error.strerror}; give another --report"
            raise CommandError(why) from error

    # Reporting

    def _report(self, run: MachineRun, test: str, judged: JudgedTest) -> None:
        self._expectations.mark(judged.checks)
        for check in judged.checks:
            if check.verdict == "lost":
                self._print(f"{check.key}: lost: {check.detail}")
        run.take(test, judged)

    def _print(self, text: str) -> None:
        """Prints in place of the progress line."""
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr, flush=True)
        print(text, flush=True)

    def _show_progress(self) -> None:
        if self._run is not None and sys.stderr.isatty():
            counts = self._run.counts
            reported = self._planned - sum(len(part.waiting) for part in self._parts)
            state = f"{reported} of {self._planned} tests, {counts.all.total()} checks"
            deviations = f"{counts.all['deviates'] - counts.known['deviates']} deviate"
            name = self._machine.target.name
            print(f"\r\033[K{name}: {state}, {deviations}", end="", file=sys.stderr, flush=True)

    # Ending

    def _finish(self, run: MachineRun, interrupted: bool) -> int:
        """Gives what was not reported its verdict, writes the files, prints the counts, and returns the exit status."""
        for part in self._parts:
            # A part that was ended with the others is not lost.
            failed = self._machine.failure() or part.closed or part.hung
            over = part.ended or interrupted or self._enough() or not failed
            why = "" if over else self._reason(part)
            for test, key in part.waiting.items():
                verdict = "lost" if why and test == part.current else "not_run"
                self._report(run, test, JudgedTest([Check(key, verdict, detail=why or "the run ended first")]))
        run.finish()
        absent = [f"a part of the run did not begin: {self._reason(part)}" for part in self._parts if not part.began]
        self._print("\n".join([*absent, *run.lines()]))
        return overall(run.status, run.counts.status(), 3 if absent else 0)

    def _reason(self, part: _Part) -> str:
        """Returns the reason for which a stream has no end line."""
        return self._with_console(self._machine.failure() or part.fault or f"its stream broke off: {part.last_error()}")

    def _with_console(self, why: str) -> str:
        return "; ".join([why, *(f"console: {line}" for line in self._machine.console())])


def _script(machine: Machine, args: argparse.Namespace, seed: int, number: int) -> str:
    """Returns the shell script that runs one part there: its stream on stdout, everything else on stderr."""
    shard = (args.shard or Shard(1, 1)).part(number, machine.parts)
    words = [machine.python, "-P", "-m", "probes.cli", "check", *args.ids]
    words += options.words(args, lambda option: option.remote)
    words += [f"--seed={seed}", f"--shard={shard}", "--stream=3", "--report="]
    if args.tests:
        words.append(f"--tests={os.path.relpath(args.tests, checkout())}")
    words += ["--", *args.rest] * bool(args.rest)
    passed = {name: value for name, value in os.environ.items() if _VARIABLES.fullmatch(name)}
    variables = passed | machine.target.environment() | {"PYTHONPATH": machine.checkout}
    pairs = " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
    return f"cd {machine.checkout} && {pairs} exec {shlex.join(words)} 3>&1 1>&2"
