"""Implements `socketcall sweep`: makes the calls for every member of a number space, on all CPUs."""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from probes import VERSION
from probes.abi.operations import ROUTES
from probes.cli import streams
from probes.cli.sweep_report import Evidence, Report
from probes.cli.sweep_state import State
from probes.cli.sweep_workers import Remaining, Workers, require_room
from probes.entry.gate import WORD, entry_abi, gate, gate_names
from probes.errors import CommandError
from probes.installation import implementation, target
from probes.interrupts import deferred, status_of
from probes.report.check import Json
from probes.report.sweep import Outcome
from probes.sandbox import trial
from probes.sandbox.channel import Channel
from probes.sandbox.sandbox import CannotSandbox, slowness
from probes.sandbox.work import work_directory
from probes.testing.reference import local, parse
from probes.testing.spaces import SPACES, WORD_MAX, Plan
from probes.testing.sweep_chunks import BLOCK, SweepFailed, Task, traced

_GATES = ("int80", "vdso")
#: Members of a group of deviations that are made again, traced, and groups for which that is done.
_TRACED, _GROUPS = 3, 8
#: Seconds between two lines of progress: on a terminal one line is written again, in a file lines follow each other.
_TERMINAL_TICK, _LINE_TICK = 0.5, 60.0

EPILOG = f"""Spaces: {"; ".join(f"{space.name}, {space.what}" for space in SPACES.values())}. What is expected of each member
is what the documents state. SIGINT and SIGTERM end a sweep; with --state the same command goes on where it ended.
Exit status: 0 all as expected, 1 something deviates, 2 usage or could not start, 3 nothing deviates but something was lost
or not swept, 128+N ended by signal N."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the space and the options."""
    parser.epilog = EPILOG
    parser.add_argument("space", choices=SPACES, metavar="SPACE", help=", ".join(SPACES))
    parser.add_argument(
        "--range", metavar="A..B", type=_range, help="only the values A to B, decimal or 0x… (default: all)"
    )
    parser.add_argument(
        "--gate", choices=_GATES, default="int80", help="enter the kernel by this gate (default: int80)"
    )
    parser.add_argument("--route", choices=ROUTES, default="socketcall", help="make socket calls over this route")
    parser.add_argument("-n", "--workers", metavar="N", type=_workers, help="processes (default: one for each CPU)")
    parser.add_argument("--state", metavar="FILE", type=Path, help="keep what was swept there, and go on from it")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="write the report there as JSON")
    parser.add_argument("--reference", metavar="ABI-VERSION", help="expect the answers of i386-6.1, ia32-compat-6.1, …")
    parser.add_argument(
        "--isolation", choices=("full", "net", "none"), help="namespaces that the sandboxes make (default: as check)"
    )
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def _range(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(0x[0-9a-fA-F]{1,20}|[0-9]{1,20})\.\.(0x[0-9a-fA-F]{1,20}|[0-9]{1,20})", text)
    if match is None or not text.isascii():
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not A..B with numbers like 1024 or 0x400")
    first, last = (int(number, 16 if number.startswith("0x") else 10) for number in match.groups())
    if max(first, last) > WORD_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} goes beyond 32 bits; the greatest number is {WORD_MAX:#x}")
    if first > last:
        raise argparse.ArgumentTypeError(f"{text!r} is turned round; write {match[2]}..{match[1]}")
    return first, last


def _workers(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or not text.isascii() or not int(text):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number of processes from 1 on")
    return int(text)


def main(args: argparse.Namespace) -> int:
    """Sweeps, and returns the exit status. Raises CommandError."""
    plan = _plan(args)
    workers = args.workers or len(os.sched_getaffinity(0))
    require_room(workers)
    if args.output and args.state and args.output.resolve() == args.state.resolve():
        raise CommandError(f"{args.state} cannot be both state and report; give -o another file")
    found = trial.find(args.isolation)
    if found.isolation == "none" and os.geteuid() and not all(track.privileged for track in plan.tracks):
        raise CommandError(
            f"sweep {args.space}: a part needs capabilities, which this user has in a user namespace only"
        )
    gate(args.gate)  # Before any fork: the tracer of a sandbox knows the gate's page.
    task = Task(plan, args.gate, args.route, found, slowness())
    with ExitStack() as open_things:
        report = Report(plan, _facts(task), workers)
        state = _state(args, report, open_things)
        output = _output(args, open_things)
        work = open_things.enter_context(work_directory())
        interruption = _sweep(task, report, state, args.quiet, work)
        if interruption is None:
            _gather_evidence(task, report, work)
        try:
            if output is not None:
                _write(report, output)
        finally:
            print("\n".join(report.lines()))
        if interruption is not None:
            streams.say("the sweep was ended; " + _how_to_resume(args))
            return status_of(interruption)
        return report.status()


def _plan(args: argparse.Namespace) -> Plan:
    """Returns what is to be swept. Raises CommandError: there is no such gate, route or range."""
    space = SPACES[args.space]
    if args.gate not in gate_names():
        raise CommandError(
            f"--gate {args.gate}: this {WORD}-bit process has {', '.join(gate_names())} only; a 32-bit process has both: "
            "`socketcall target run i386 -- sweep …`"
        )
    if args.route not in space.routes:
        raise CommandError(f"--route {args.route}: {space.name} exist over route {', '.join(space.routes)} only")
    first, last = args.range or (0, space.last)
    if last > space.most:
        raise CommandError(f"--range {first}..{last}: {space.name} are the numbers 0 to {space.most}")
    try:
        reference = parse(args.reference) if args.reference else local()
    except ValueError as error:
        raise CommandError(f"--reference: {error}") from error
    return Plan(space, first, last, reference)


def _facts(task: Task) -> dict[str, Json]:
    """Returns what must be the same where a sweep is resumed."""
    host, plan = os.uname(), task.plan
    return {
        "schema": 1, "space": plan.space.name, "range": [plan.first, plan.last], "members": plan.size, "gate": task.gate,
        "route": task.route, "kernel": f"{host.release} {host.version}", "abi": entry_abi(), "word": WORD,
        "reference": str(plan.reference), "isolation": task.found.isolation, "implementation": implementation(),
        "target": target(), "suite": VERSION,
    }  # fmt: skip


def _state(args: argparse.Namespace, report: Report, open_things: ExitStack) -> State | None:
    if args.state is None:
        return None
    state = State(args.state, report.facts)
    open_things.callback(state.close)
    for start, stop, _, outcome in state.chunks:
        report.add(start, stop, outcome)
    report.seconds = max((seconds for _, _, seconds, _ in state.chunks), default=0.0)
    return state


def _output(args: argparse.Namespace, open_things: ExitStack) -> IO[str] | None:
    if args.output is None:
        return None
    try:
        output: IO[str] = open_things.enter_context(args.output.open("w", encoding="utf-8"))
        return output
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise CommandError(f"cannot write {args.output}: {why}; name another file with -o") from error


def _write(report: Report, output: IO[str]) -> None:
    """Writes the report as JSON. Raises CommandError: it cannot be written."""
    try:
        with output:
            json.dump(report.as_json(), output, indent=1)
            output.write("\n")
    except OSError as error:
        raise CommandError(
            f"cannot write {output.name}: {error.strerror}; free space, or name another file", 3
        ) from error


def _how_to_resume(args: argparse.Namespace) -> str:
    if args.state is None:
        return "nothing of it was kept: give --state FILE to be able to resume"
    return f"the same command resumes it from {args.state}"


def _sweep(task: Task, report: Report, state: State | None, quiet: bool, work: Path) -> KeyboardInterrupt | None:
    """Sweeps what remains, and returns the signal that ended it."""
    begun, before = time.monotonic(), report.seconds
    remaining = Remaining(task.plan.size, report.done)
    progress = _Progress(report, remaining.count, quiet)

    def found(start: int, stop: int, outcome: Outcome) -> None:
        # A signal between the line of the chunk and its count would report less than the state holds.
        with deferred():
            report.add(start, stop, outcome)
            report.swept_now += stop - start
            if state is not None:
                state.add(start, stop, before + time.monotonic() - begun, outcome)

    workers = min(report.workers, max(1, -(-remaining.count // BLOCK)))
    try:
        if remaining.count:
            with Workers(task, workers, work) as pool:
                pool.run(remaining, found, progress.show)
    except KeyboardInterrupt as error:
        return error
    finally:
        progress.end()
        report.seconds_now = time.monotonic() - begun
        report.seconds = before + report.seconds_now
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        report.cpu_seconds = sum(one.ru_utime + one.ru_stime for one in used)
    return None


def _gather_evidence(task: Task, report: Report, work: Path) -> None:
    """Makes the calls of some deviating members again, traced. Raises CommandError."""
    channel = Channel()
    for expected, actual, group in [*report.outcome.deviations][:_GROUPS]:
        for start, _ in group.ranges[:_TRACED]:
            try:
                records, again = traced(task, start, channel, work)
            except (SweepFailed, CannotSandbox) as error:
                raise CommandError(f"a deviating member cannot be traced: {error}", 3) from error
            report.evidence.append(Evidence(start, expected, actual, again, records))


class _Progress:
    """Shows on stderr how far a sweep is, how fast, and how long it will take."""

    def __init__(self, report: Report, remaining: int, quiet: bool) -> None:
        """Begins with the members that remain; shows nothing if it is to be quiet."""
        self._report, self._remaining, self._quiet = report, remaining, quiet
        self._terminal = sys.stderr.isatty()
        self._begun = self._shown = time.monotonic()

    def show(self, open_members: int) -> None:
        """Shows it, if the last time is long enough ago. `open_members` were swept in chunks that are not complete."""
        now = time.monotonic()
        if self._quiet or now - self._shown < (_TERMINAL_TICK if self._terminal else _LINE_TICK):
            return
        self._shown = now
        done = self._report.swept_now + open_members
        rate = done / (now - self._begun)
        size = self._report.plan.size
        swept = size - self._remaining + done
        text = f"{self._report.plan.space.name}: {100 * swept / size:.1f} % of {size} swept, {_amount(rate)} a second"
        if rate:
            text += f", {_duration((self._remaining - done) / rate)} left"
        text += f", {self._report.outcome.deviations.count} deviate"
        if self._terminal:
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
        else:
            streams.say(text)

    def end(self) -> None:
        """Removes the line from a terminal."""
        if self._terminal and not self._quiet:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def _amount(rate: float) -> str:
    return f"{rate / 1e6:.1f} million" if rate >= 1e6 else f"{rate:.0f}"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
