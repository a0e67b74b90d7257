"""Writes a capture as text in the manner of strace: the call, then its route and gate."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from probes.abi import strace_notation as notation
from probes.abi.decode import decode
from probes.abi.events import Exit, Note, Signal
from probes.abi.frame import Frame
from probes.abi.interfaces import has_index, with_names
from probes.abi.operations import BY_NAME, Operation
from probes.abi.record import Decoded, errno_name
from probes.cli.capture_filters import MAKE_FD
from probes.report import capture as events
from probes.trace.traced_call import TracedCall

#: Columns: of the result, as `strace -a 40`, and of the route. A line that fits ends before column 100.
_RESULT, _ROUTE = 40, 83
_BOLD, _RED, _DIM, _PLAIN = "\x1b[1m", "\x1b[31m", "\x1b[2m", "\x1b[0m"


@dataclass(frozen=True)
class Style:
    """Says what a line has besides the call: 0 to 3 times -t, and the other options of the same name."""

    wall: int = 0
    relative: bool = False
    duration: bool = False
    raw: bool = False
    brief: bool = False
    color: bool = False
    #: True: every line begins with its thread's id; False: `[pid N]` where there are several.
    file: bool = False
    #: True: the beginning of a call is written at its entry.
    live: bool = False
    #: True: each thread has a file of its own.
    split: bool = False


class Text:
    """Writes lines by `write`. A call is on one line, unless another line comes between its entry and its exit."""

    def __init__(
        self,
        write: Callable[[str, int], None],
        style: Style,
        threads: Callable[[], int],
        part: Callable[[str], None] | None = None,
    ) -> None:
        """Takes the writer of a line, a function that returns how many threads there are, and the writer of a part.

        With the last, the beginning of a call is written at its entry: on a terminal.
        """
        self._write, self._style, self._threads, self._part = write, style, threads, part
        #: What stands on the last line without its end, and the head of that line.
        self._begun, self._begun_head = "", ""
        #: How many threads a line stands for that are there no more.
        self._ended = 0
        #: The call that was entered last, if no line came after that.
        self._open: TracedCall | None = None
        #: Threads whose call has an unfinished line.
        self._unfinished: set[int] = set()
        #: True: a line has no more than the call, its route and gate.
        self._is_plain = not (style.duration or style.raw or style.brief or style.color)
        self._before = 0
        self._wall = time.time_ns() - time.monotonic_ns()

    def enter(self, call: TracedCall) -> None:
        """Takes a call at its entry."""
        self._interrupt()
        self._open = call
        if self._part is not None:
            self._begun_head = self._head(call.tid, call.t_in)
            self._begun = self._beginning(call, self._begun_head)
            self._part(self._begun)

    def call(self, call: TracedCall) -> None:
        """Writes a call that is over."""
        if self._open is not call:
            self._interrupt()
        else:
            self._open = None
        shown, result, has_links = _shown(
            call.op, call.args, tuple(call.before.items()), tuple(call.after.items()), call.ret, call.i386,
            tuple(call.sockets.items()),
        )  # fmt: skip
        if has_links:
            shown = _with_links(call)
        name = _name(call)
        if call.tid in self._unfinished:
            self._unfinished.discard(call.tid)
            rest = ", ".join(shown[_known_at_entry(call.operation) :])
            self._line(call, call.t_out or call.t_in, f"<... {name} resumed>{rest})", result)
        else:
            self._line(call, call.t_in, f"{name}({', '.join(shown)})", result)
        if call.stack is not None:
            for line in (*map(str, call.stack.frames), f" > ({call.stack.end})"):
                self._write(line, call.tid)

    def signal(self, seen: Signal) -> None:
        """Writes a signal."""
        self.line(signal_text(seen), seen.t_ns, seen.tid)

    def exit(self, seen: Exit) -> None:
        """Writes the end of a thread."""
        self._ended = 1
        self._interrupt()
        self._write(f"{self._head(seen.tid, seen.t_ns)}+++ {events.ending(seen.status)} +++", seen.tid)
        self._ended = 0

    def note(self, seen: Note) -> None:
        """Writes a remark."""
        self.line(f"/* {seen.text} */", seen.t_ns, seen.tid)

    def line(self, text: str, t_ns: int, tid: int) -> None:
        """Writes a line that is no call."""
        self._interrupt()
        self._write(f"{self._head(tid, t_ns)}{text}", tid)

    def _interrupt(self) -> None:
        """Writes the beginning of the call that is under way, because a line of another thread follows."""
        call = self._open
        if call is None:
            return
        self._open = None
        self._unfinished.add(call.tid)
        begun, self._begun = self._begun, ""
        beginning = "" if begun else self._beginning(call, self._head(call.tid, call.t_in))
        self._write(f"{beginning} <unfinished ...>", call.tid)

    def _beginning(self, call: TracedCall, head: str) -> str:
        """Returns a call as far as it is known at its entry."""
        sockets = tuple(call.sockets.items())
        shown, *_ = _shown(call.op, call.args, tuple(call.before.items()), (), None, call.i386, sockets)
        known = shown[: _known_at_entry(call.operation)]
        begun = ", ".join(known) + (", " if 0 < len(known) < len(shown) else "")
        name = f"{_BOLD}{_name(call)}{_PLAIN}" if self._style.color else _name(call)
        return f"{head}{name}({begun}"

    def _line(self, call: TracedCall, t_ns: int, text: str, result: str) -> None:
        style = self._style
        if self._is_plain and not self._begun and not call.injected:
            head = self._head(call.tid, t_ns)
            self._write(head + _plain(len(head), text, result, call.route, call.gate), call.tid)
            return
        head = self._begun_head if self._begun else self._head(call.tid, t_ns)
        gap = " " * max(1, _RESULT - len(head) - len(text))
        marked = " (INJECTED)" if call.injected else ""
        after = f"{marked} <{(call.t_out - call.t_in) / 1e9:.6f}>" if style.duration and call.t_out else marked
        plain = f"{head}{text}{gap}= {result}{after}"
        line = self._colored(call, head, text, gap, result, after) if style.color else plain
        if not style.brief:
            where = f"{call.route} {call.gate}" + (f"  {_raw(call)}" if style.raw else "")
            room = " " * max(2, _ROUTE - len(plain))
            line += f"{room}{_DIM}{where}{_PLAIN}" if style.color else f"{room}{where}"
        if self._begun:
            # (A program can change its arguments during the call.)
            line = line[len(self._begun) :] if line.startswith(self._begun) else f" ...\n{line}"
            self._begun = ""
        self._write(line, call.tid)

    def _colored(self, call: TracedCall, head: str, text: str, gap: str, result: str, after: str) -> str:
        name, opening, rest = text.partition("(")
        result = f"{_RED}{result}{_PLAIN}" if errno_name(call.ret) else result
        return f"{head}{_BOLD}{name}{_PLAIN}{opening}{rest}{gap}= {result}{after}"

    def _head(self, tid: int, t_ns: int) -> str:
        style = self._style
        if style.file and not style.split:
            head = f"{tid:<5} "
        else:
            head = f"[pid {tid:>5}] " if not style.split and self._threads() + self._ended > 1 else ""
        if not (style.relative or style.wall):
            return head
        if style.relative:
            since = t_ns - self._before if self._before else 0
            self._before = t_ns
            return f"{head}{since // 1_000_000_000:>6}.{since // 1000 % 1_000_000:06} "
        now = t_ns + self._wall
        seconds, micros = now // 1_000_000_000, f".{now // 1000 % 1_000_000:06}" if style.wall > 1 else ""
        clock = str(seconds) if style.wall > 2 else time.strftime("%H:%M:%S", time.localtime(seconds))
        return f"{head}{clock}{micros} "


@lru_cache(maxsize=512)
def _plain(head: int, text: str, result: str, route: str, gate: str) -> str:
    """Returns the line of a call behind its head, which has so many letters."""
    line = f"{text}{' ' * max(1, _RESULT - head - len(text))}= {result}"
    return f"{line}{' ' * max(2, _ROUTE - head - len(line))}{route} {gate}"


def signal_text(seen: Signal) -> str:
    """Returns the line of a signal."""
    name = events.signal_name(seen.number)
    return f"--- {name} {{{', '.join(seen.info) or f'si_signo={name}'}}} ---"


def frame_text(frame: Frame) -> str:
    """Returns the line of a frame."""
    return f"=== {frame.text} ==="


def call_text(call: TracedCall) -> str:
    """Returns the line of a call without what stands before and behind it."""
    shown, result, has_links = _shown(
        call.op, call.args, tuple(call.before.items()), tuple(call.after.items()), call.ret, call.i386,
        tuple(call.sockets.items()),
    )  # fmt: skip
    return f"{_name(call)}({', '.join(_with_links(call) if has_links else shown)}) = {result}"


#: Names of the x86-64 ABI for calls that have another in that of i386.
_X86_64_NAMES = {"sendfile64": "sendfile", "_newselect": "select"}


def _name(call: TracedCall) -> str:
    if not call.i386 and call.op in _X86_64_NAMES:
        return _X86_64_NAMES[call.op]
    return call.op or f"{'socketcall' if call.route == 'socketcall' else 'syscall'}_{call.number}"


def _raw(call: TracedCall) -> str:
    """Returns what the kernel was given, and the words afterwards if they changed."""
    if call.route == "socketcall":
        given = f"eax={call.nr} ebx={call.number} ecx={call.args_ptr:#x}"
    else:
        given = f"{'rax' if call.abi == 'x86_64' else 'eax'}={call.nr}"
    words = f"[{' '.join(map(hex, call.args))}]"
    if call.args_after is not None and call.args_after != call.args:
        words += f" => [{' '.join(map(hex, call.args_after))}]"
    error = f" ({call.args_error})" if call.args_error else ""
    return f"{call.abi}/{call.word} {given} {words}{error}"


@lru_cache(maxsize=512)
def _shown(
    op: str,
    args: tuple[int, ...],
    before: tuple[tuple[str, bytes], ...],
    after: tuple[tuple[str, bytes], ...],
    ret: int | None,
    i386: bool,
    sockets: tuple[tuple[int, str], ...],
) -> tuple[list[str], str, bool]:
    """Returns the arguments of a call, its result, and whether arguments have indexes of interfaces.

    A program makes many calls again with the same ones.
    """
    operation = BY_NAME.get(op)
    decoded: Mapping[str, Decoded] = {}
    if operation is not None and len(args) == operation.words:
        decoded = decode(operation, args, dict(before), dict(after), ret, 32 if i386 else 64)
    known = dict(sockets)
    made = notation.descriptor(ret, known) if op in MAKE_FD and ret in known else notation.outcome(ret)
    result = made + notation.auxiliary(op, decoded, ret)
    return notation.arguments(decoded, ret, known), result, has_index(decoded)


def _with_links(call: TracedCall) -> list[str]:
    """Returns the arguments of a call with the names that its interfaces have now."""
    from probes.trace.links import names_of_links

    named = with_names(call.decoded(), names_of_links(call.pid))
    return notation.arguments(named, call.ret, call.sockets)


def _known_at_entry(operation: Operation | None) -> int:
    """Returns how many arguments strace writes at the entry of a call: those before the first that the call writes."""
    if operation is None:
        return 0
    return min((index for index, _, _ in operation.exit), default=operation.words)
