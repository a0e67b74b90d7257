"""Implements `socketcall capture`: shows the socket calls of any program, i386 or x86-64, as they enter the kernel."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import IO

from probes.abi.events import Exit, Signal
from probes.errors import CommandError
from probes.report import capture as formats
from probes.report.capture import Counts, ExitEvent, SignalEvent
from probes.report.check import Json
from probes.trace.loop import Tracer
from probes.trace.seccomp import is_filtered
from probes.trace.spawn import CANNOT_TRACE, ENDING, CannotCapture, attach, is_wider, spawn
from probes.trace.traced_call import TracedCall, socket_numbers

EPILOG = f"""A line has: {formats.LEGEND}. The capture goes on until PROGRAM and all that it started have ended.
Ctrl-C is for PROGRAM; SIGTERM and SIGHUP are passed on to it. With -p, Ctrl-C ends the capture and the process goes on.
Exit status: that of PROGRAM or PID, 128+N if signal N killed it; 0 after Ctrl-C with -p; 125 it could not be traced,
126 not executed, 127 not found; 2 usage."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options; the program and its arguments follow --, as args.rest."""
    parser.epilog = EPILOG
    parser.usage = "%(prog)s [--format text|jsonl] [-o FILE] [-c] (-p PID | -- PROGRAM [ARGUMENT ...])"
    parser.add_argument("--format", choices=("text", "jsonl"), default="text", help="lines for people, or JSON lines")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="write there (default: standard error)")
    parser.add_argument("-c", "--count", action="store_true", help="only count: calls, errors and time by operation")
    parser.add_argument("-p", "--pid", metavar="PID", type=_pid, help="attach to a running process and its threads")


def _pid(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a process id")
    return int(text)


def main(args: argparse.Namespace) -> int:
    """Captures, and returns the exit status. Raises CommandError: neither a program nor a process was named, or both."""
    if bool(args.rest) == (args.pid is not None):
        what = "both a program and -p PID were given" if args.rest else "nothing to capture: name a program after --"
        raise CommandError(f"capture: {what}; give either -p PID or -- PROGRAM, see `socketcall capture --help`")
    try:
        if args.pid is not None:
            return _attached(Capture(args), args.pid)
        return _spawned(Capture(args), args.rest)
    except CannotCapture as error:
        print(f"socketcall: {error}", file=sys.stderr)
        return error.status


class Capture:
    """Receives calls, signals and exits from the tracer, and writes lines or counts them.

    It ignores what comes before `begin`, and all that follows a failed write, which raises CannotCapture once.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        """Takes the format and the output file from the arguments of the command."""
        self._path: Path | None = args.output
        self._json, self._count = args.format == "jsonl", bool(args.count)
        self._counts: Counts = {}
        self._file: IO[str] | None = None
        self._start, self._seq, self._main = 0, 0, 0
        #: The wait status of the captured process, None until it has ended.
        self.ended: int | None = None

    def tracer(self, every_call: bool, ours: bool) -> Tracer:
        """Returns a tracer that sends its events here."""
        return Tracer(
            self._call,
            every_call=every_call,
            numbers=socket_numbers(),
            on_signal=self._signal,
            on_exit=self._exit,
            exitkill=ours,
        )

    def begin(self, pid: int) -> None:
        """Begins to record; `pid` is the captured process. Raises CannotCapture: the file cannot be written."""
        try:
            self._file = self._path.open("w", encoding="utf-8") if self._path else sys.stderr
        except OSError as error:
            raise CannotCapture(
                CANNOT_TRACE, f"cannot write {self._path}: {error.strerror}; name another file with -o"
            ) from error
        self._start, self._main = time.monotonic_ns(), pid

    def finish(self) -> int:
        """Writes what remains and returns the exit status."""
        if self._count:
            lines = map(_dumped, formats.as_json(self._counts)) if self._json else [formats.table(self._counts)]
            for line in lines:
                self._write(line)
        if self._file is not None and self._path is not None:
            self._file.close()
        if self.ended is None:
            return 0
        return 128 + os.WTERMSIG(self.ended) if os.WIFSIGNALED(self.ended) else os.WEXITSTATUS(self.ended)

    def _call(self, call: TracedCall) -> None:
        if self._file is None:
            return
        record = call.record()
        if self._count:
            formats.count([record], self._counts)
        else:
            self._seq += 1
            record.seq = self._seq
            self._write(_dumped(record.as_json()) if self._json else formats.line(record, self._start))

    def _signal(self, seen: Signal) -> None:
        self._event(SignalEvent(seen.t_ns, seen.pid, seen.tid, seen.number, seen.ip))

    def _exit(self, seen: Exit) -> None:
        killed = os.WIFSIGNALED(seen.status)
        status = None if killed else os.WEXITSTATUS(seen.status)
        number = os.WTERMSIG(seen.status) if killed else None
        self._event(ExitEvent(seen.t_ns, seen.pid, seen.tid, status, number))
        if seen.tid == self._main and self.ended is None:
            self.ended = seen.status

    def _event(self, event: SignalEvent | ExitEvent) -> None:
        if self._file is None or self._count:
            return
        self._seq += 1
        self._write(_dumped(event.as_json(self._seq)) if self._json else event.line(self._start))

    def _write(self, line: str) -> None:
        if self._file is None:
            return
        try:
            self._file.write(line + "\n")
            self._file.flush()
        except OSError as error:
            # Later lines are dropped: this error is reported once.
            self._file = None
            raise CannotCapture(
                CANNOT_TRACE,
                f"cannot write {self._path or 'to standard error'}: {error.strerror}; the capture ends here",
            ) from error


def _dumped(line: Mapping[str, Json]) -> str:
    return json.dumps(line, separators=(",", ":"), ensure_ascii=False)


def _spawned(capture: Capture, argv: list[str]) -> int:
    tracer = capture.tracer(every_call=is_filtered(), ours=True)
    pid = spawn(tracer, argv)

    def pass_on(number: int, _: FrameType | None) -> None:
        if capture.ended is not None:
            # The program has ended and its children run on: end them as well.
            tracer.kill()
        elif number in (signal.SIGTERM, signal.SIGHUP):
            os.kill(pid, number)
        # A terminal sends SIGINT and SIGQUIT to the program as well.

    try:
        if is_wider(pid):
            raise _is_64_bit(pid)
        capture.begin(pid)
    except CannotCapture:
        tracer.kill()
        tracer.run()
        raise
    with _Handling(pass_on):
        tracer.resume(pid)
        tracer.run()
        return capture.finish()


def _attached(capture: Capture, pid: int) -> int:
    tracer = capture.tracer(every_call=True, ours=False)
    if is_wider(pid):
        raise _is_64_bit(pid)

    def detach(_number: int, _: FrameType | None) -> None:
        if interrupted:
            # A tracee that waits for a disk or a child of vfork does not stop: the kernel detaches it when we exit.
            raise KeyboardInterrupt
        interrupted.append(True)
        tracer.release()

    interrupted: list[bool] = []
    with _Handling(detach):
        attach(tracer, pid)
        try:
            capture.begin(pid)
        except CannotCapture:
            tracer.release()
            tracer.run()
            raise
        tracer.run()
        return capture.finish()


def _is_64_bit(pid: int) -> CannotCapture:
    return CannotCapture(CANNOT_TRACE, f"process {pid} runs a 64-bit program: capture that with 64-bit Python")


class _Handling:
    """Handles the signals that end programs inside a `with` block, except those that this process inherited as ignored."""

    def __init__(self, handler: Callable[[int, FrameType | None], None]) -> None:
        self._handler = handler

    def __enter__(self) -> None:
        self._old = {number: signal.getsignal(number) for number in ENDING}
        for number, old in self._old.items():
            if old is not signal.SIG_IGN:
                signal.signal(number, self._handler)

    def __exit__(self, *_: object) -> None:
        for number, old in self._old.items():
            if old is not signal.SIG_IGN:
                signal.signal(number, old)
