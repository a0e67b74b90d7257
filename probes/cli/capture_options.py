"""Defines the options of `socketcall capture`, and which of them contradict each other."""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path

from probes.cli.capture_filters import CLASSES
from probes.errors import CommandError

EPILOG = f"""A line has the call as strace writes it, then its route and gate. The capture goes on until PROGRAM and all
that it started have ended. Ctrl-C is for PROGRAM; SIGTERM and SIGHUP are passed on to it. With -p, Ctrl-C ends the
capture and the process goes on. Exit status: that of PROGRAM or PID, 128+N if signal N killed it; 0 after Ctrl-C with
-p; 125 it could not be traced, 126 not executed, 127 not found; 2 usage. EXPR is [trace=]CALL,… or CLASS,…
({", ".join(f"%{name}" for name in CLASSES if name != "net")}), route=socketcall|direct, gate=int80|vdso|syscall,
signal=NAME,…, status=successful|failed|unfinished, errno=NAME,…; ! before the list means all others."""


#: Command lines that end the help; between them they have each option.
EXAMPLES = (
    "socketcall capture -e %network,%desc -e signal=none -yy -s 80 -- PROGRAM",
    "socketcall capture -tt -T --fd 3 --raw --color always -- PROGRAM",
    "socketcall capture --addr 127.0.0.1 --port 80 -r -- PROGRAM",
    "socketcall capture -P /run/socket --brief -f -- PROGRAM",
    "socketcall capture -Z --errno ECONNREFUSED -- PROGRAM",
    "socketcall capture -z -ff -o trace -- PROGRAM",
    "socketcall capture -k -e connect -- PROGRAM",
    "socketcall capture -o calls.html -- PROGRAM",
    "socketcall capture --format jsonl -o '|jq .op' -- PROGRAM",
    "socketcall capture --follow-wire -o calls.html -- PROGRAM",
    "socketcall capture -p nginx --tree -c",
    "socketcall capture --inject connect:error=ETIMEDOUT:when=2 -- PROGRAM",
    "socketcall capture --compare strace.txt -- PROGRAM",
    "socketcall capture --summary-of calls.jsonl",
    "socketcall capture -o calls.txt -- curl http://127.0.0.1/",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options; the program and its arguments follow --, as args.rest."""
    parser.epilog = EPILOG
    parser.example = "\n".join(EXAMPLES)  # type: ignore[attr-defined]
    parser.usage = "%(prog)s [OPTION ...] (-p PID | -- PROGRAM [ARGUMENT ...] | --summary-of FILE)"
    add = parser.add_argument
    add("--format", choices=("text", "jsonl", "html"), help="lines for people, JSON lines, or a page (default: by -o)")
    add("-o", "--output", metavar="FILE", help="write there (default: standard error); |COMMAND: to a command")
    add("-c", "--count", action="store_true", help="only count: calls, errors and time by operation")
    add("-p", "--pid", metavar="PID", action="append", default=[], help="attach to a process, also PID,PID or its name")
    add("--tree", action="store_true", help="with -p: the processes that it started too")
    add(
        "-f",
        action="count",
        default=0,
        dest="follow",
        help="-ff: with -o FILE, a file for each thread, FILE.TID; -f: as by strace",
    )
    _add_choosing(parser.add_argument_group("what is shown"))
    _add_appearance(parser.add_argument_group("how text looks"))
    _add_other_work(parser.add_argument_group("other work"))


def _add_choosing(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "-e",
        metavar="EXPR",
        action="append",
        default=[],
        dest="expressions",
        help="choose calls and signals, see below",
    )
    add("--fd", metavar="N", action="append", default=[], type=_number, help="calls on this descriptor")
    add(
        "--addr",
        metavar="HOST",
        action="append",
        default=[],
        help="calls with this address, then those on the descriptor",
    )
    add("--port", metavar="N", action="append", default=[], type=_number, help="the same for a port")
    add("-P", "--path", metavar="PATH", action="append", default=[], help="the same for a path of AF_UNIX")
    add("-z", action="store_true", dest="successful", help="only calls that succeeded")
    add("-Z", action="store_true", dest="failed", help="only calls that failed")
    add("--errno", metavar="NAMES", help="only calls that failed with one of these errors")


def _add_appearance(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "-t",
        action="count",
        default=0,
        dest="wall",
        help="time of day; -tt: with microseconds; -ttt: seconds of the epoch",
    )
    add("-r", action="store_true", dest="relative", help="seconds since the line before")
    add("-T", action="store_true", dest="duration", help="the time that each call took")
    add("-s", type=_number, metavar="N", dest="size", help="bytes of data that are shown (default: 32, in JSON 64)")
    add("-y", action="count", default=0, dest="descriptors", help="what descriptors are; -yy: protocol and addresses")
    add(
        "-k",
        "--stack-trace",
        action="store_true",
        dest="stack",
        help="the stack of each call, as frame pointers show it",
    )
    add("--raw", action="store_true", help="registers and argument words too")
    add("--brief", action="store_true", help="neither route nor gate: lines as strace's")
    add("--color", choices=("auto", "always", "never"), default="auto", help="colours (default: on a terminal)")


def _add_other_work(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--follow-wire",
        action="store_true",
        help="run PROGRAM in a network namespace of its own, and show its frames between the calls",
    )
    add(
        "--inject",
        metavar="CALLS:HOW",
        action="append",
        default=[],
        help="make calls wrong: error=NAME, retval=N, delay_enter=US, result=N, delay_exit=US, signal=NAME, and when=N",
    )
    add(
        "--compare",
        metavar="FILE",
        type=Path,
        help="compare with the trace of another tracer (strace's text, JSON lines): status 1 if they differ",
    )
    add("--summary-of", metavar="FILE", type=Path, help="count the calls of a capture in JSON lines")


def keep(read: Path | None, written: str | None) -> None:
    """Raises CommandError if the file that is read would be written over."""
    with suppress(OSError):
        if read is not None and written and read.is_file() and read.samefile(written):
            raise CommandError(f"capture: -o {written} is the file that is read: name another one")


def _number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return int(text)


#: Options that contradict each other, by the names in a message.
_CONTRADICTIONS = (("--raw", "--brief"), ("-r", "-t"), ("-c", "-ff"), ("-c", "--compare"), ("--compare", "-ff"),
                   ("--follow-wire", "-p"), ("--follow-wire", "-c"), ("--follow-wire", "--compare"),
                   ("a page of HTML", "-c"), ("a page of HTML", "-ff"), ("a page of HTML", "--compare"))  # fmt: skip


def check(args: argparse.Namespace) -> None:
    """Raises CommandError if options contradict each other."""
    keep(args.compare, args.output)
    given = {
        "--raw": args.raw, "--brief": args.brief, "-r": args.relative, "-t": args.wall, "-c": args.count,
        "-ff": args.follow > 1, "--compare": args.compare, "--follow-wire": args.follow_wire, "-p": args.pid,
        "a page of HTML": args.format == "html",
    }  # fmt: skip
    for one, other in _CONTRADICTIONS:
        if given[one] and given[other]:
            raise CommandError(f"capture: {one} and {other} contradict each other: leave out one")
    if args.format == "html" and not args.output:
        raise CommandError("capture: a page of HTML is written to a file: name it with -o FILE")
    if args.tree and not args.pid:
        raise CommandError("capture: --tree is for -p: what a program starts is always captured")
