"""Implements `socketcall capture`: shows the socket calls of any program, i386 or x86-64, as they enter the kernel."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from probes.abi.arguments.fetcher import Limits
from probes.cli import streams
from probes.cli.capture_expressions import selected
from probes.cli.capture_filters import Selection
from probes.cli.capture_options import add_arguments, check
from probes.cli.capture_output import Capture, Form
from probes.cli.capture_processes import named_processes
from probes.cli.capture_sink import Sink, SplitSink
from probes.cli.capture_text import Style
from probes.errors import CommandError
from probes.trace.injection import Several
from probes.trace.loop import Tracer
from probes.trace.seccomp import is_filtered
from probes.trace.spawn import CANNOT_TRACE, ENDING, CannotCapture, attach, is_wider, spawn

if TYPE_CHECKING:
    from probes.cli.capture_wire import CapturedWire
    from probes.report import trace_diff

__all__ = ["add_arguments", "main"]


def main(args: argparse.Namespace) -> int:
    """Captures, and returns the exit status. Raises CommandError: neither a program nor a process was named, or both."""
    if args.format is None:
        args.format = "html" if str(args.output).endswith((".html", ".htm")) and not args.count else "text"
    if args.summary_of:
        from probes.cli.capture_summary import summary

        return summary(args)
    if bool(args.rest) == bool(args.pid):
        what = "both a program and -p PID were given" if args.rest else "nothing to capture: name a program after --"
        raise CommandError(f"capture: {what}; give either -p PID or -- PROGRAM, see `socketcall capture --help`")
    check(args)
    selection = selected(
        args.expressions, successful=args.successful, failed=args.failed, errnos=args.errno, fds=args.fd,
        hosts=args.addr, ports=args.port, paths=args.path,
    )  # fmt: skip
    if args.follow > 1 and (not args.output or args.output.startswith("|")):
        raise CommandError("capture: -ff writes a file for each thread: name its beginning with -o FILE")
    form = _form(args)
    sink = SplitSink(args.output) if args.follow > 1 else Sink(args.output)
    try:
        wire = _wire() if args.follow_wire else None
    except CannotCapture as error:
        streams.say(str(error))
        return error.status
    capture = Capture(sink, form, selection, lambda: len(tracer.tracees), wire)
    tracer = _tracer(args, capture, form, selection)
    try:
        if args.pid:
            return _attached(tracer, capture, named_processes(args.pid, args.tree))
        return _spawned(tracer, capture, args.rest)
    except CannotCapture as error:
        streams.say(str(error))
        return error.status


def _form(args: argparse.Namespace) -> Form:
    """Returns how the capture is written. Raises CommandError: the trace to compare with cannot be read."""
    style = Style(
        args.wall, args.relative, args.duration, args.raw, args.brief, color=_is_colored(args), file=bool(args.output),
        split=args.follow > 1, live=not args.output and sys.stderr.isatty(),
    )  # fmt: skip
    json = args.format in ("jsonl", "html")
    # What is compared has as much data as the trace.
    compared, much = _trace(args.compare) if args.compare else (None, json)
    size = args.size if args.size is not None else 64 if much else 32
    return Form(json, args.count, style, args.descriptors, compared, size, stack=args.stack,
                html=args.format == "html")  # fmt: skip


def _tracer(args: argparse.Namespace, capture: Capture, form: Form, selection: Selection) -> Tracer:
    numbers, operations = selection.stops()
    return Tracer(
        capture.call,
        every_call=bool(args.pid) or is_filtered(),
        numbers=numbers,
        operations=operations,
        on_signal=capture.signal,
        on_exit=capture.exit,
        on_note=capture.note,
        injection=_injected(args.inject) if args.inject else None,
        wants=capture.wants,
        on_leave=capture.leave,
        limits=_limits(form.size),
        netlink=None if form.count else capture.netlink,
        on_enter=capture.enter if capture.wants_entries else None,
        enters_alone=form.style.live,
        exitkill=not args.pid,
        siginfo=True,
        words_after=form.json or form.style.raw,
    )


def _wire() -> CapturedWire:
    from probes.cli.capture_wire import CapturedWire

    return CapturedWire()


def _injected(texts: list[str]) -> Several:
    from probes.cli.capture_inject import injections

    return Several(injections(texts))


def _trace(path: Path) -> tuple[list[trace_diff.Call], bool]:
    """Reads the trace of another tracer, and returns whether it is one in JSON lines. Raises CommandError."""
    from probes.report import trace_diff

    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            lines = file.readlines()
        return trace_diff.read(lines), any(line.startswith("{") for line in lines[:1])
    except OSError as error:
        raise CommandError(f"capture: cannot read {path}: {error.strerror}; name a trace") from error
    except ValueError as error:
        raise CommandError(f"capture: {path}: {error}; name what strace or --format jsonl wrote") from error


def _limits(size: int) -> Limits:
    """Returns limits for `size` bytes of data: arrays as long as the kernel takes them, control data as much."""
    return Limits(data=size, control=20_480, iovecs=1024, messages=1024, pollfds=1024, instructions=4096, fds=8192)


def _is_colored(args: argparse.Namespace) -> bool:
    if args.color == "auto":
        return not args.output and sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    return bool(args.color == "always")


def _spawned(tracer: Tracer, capture: Capture, argv: list[str]) -> int:
    pid = spawn(tracer, argv)

    def pass_on(number: int, _: FrameType | None) -> None:
        if capture.ended is not None:
            # The program has ended and its children run on: end them as well.
            tracer.kill()
        elif number in (signal.SIGTERM, signal.SIGHUP):
            with suppress(ProcessLookupError):
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
    # (A command that reads the lines may go on: a signal ends the wait for it.)
    return capture.finish()


def _attached(tracer: Tracer, capture: Capture, pids: Mapping[int, bool]) -> int:
    for pid in pids:
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
        for pid, by_number in pids.items():
            attach(tracer, pid, must=by_number or len(pids) == 1)
        try:
            capture.begin(next(iter(pids)))
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
