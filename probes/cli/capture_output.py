"""Receives what the tracer of `socketcall capture` sees, and writes it: lines of text or JSON, or counts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from probes.abi.events import Exit, Note, Signal
from probes.cli.capture_filters import Selection, descriptors_of, made_by
from probes.cli.capture_sink import Sink, SplitSink
from probes.cli.capture_text import Style, Text, call_text, frame_text, signal_text
from probes.report import capture as formats
from probes.report.capture import CallType, Counts
from probes.report.check import Json
from probes.trace.traced_call import TracedCall

if TYPE_CHECKING:
    from probes.cli.capture_wire import CapturedWire
    from probes.report import trace_diff
    from probes.trace.descriptors import Descriptors


@dataclass(frozen=True)
class Form:
    """Says how a capture is written."""

    json: bool = False
    count: bool = False
    style: Style = field(default_factory=Style)
    #: 0: descriptors as numbers; 1, 2: with what they are, as -y and -yy.
    descriptors: int = 0
    #: The calls of another trace, with which the capture is compared in place of writing it.
    compared: Sequence[trace_diff.Call] | None = None
    #: How many bytes of data are shown.
    size: int = 32
    #: True: the stack of each call too.
    stack: bool = False
    #: True: the JSON lines stand in a page that shows them.
    html: bool = False


class Capture:
    """Receives calls, signals and exits from the tracer, and writes lines or counts them.

    It ignores what comes before `begin`, and all that follows a failed write, which raises CannotCapture once.
    """

    def __init__(
        self,
        sink: Sink,
        form: Form,
        selection: Selection,
        threads: Callable[[], int],
        wire: CapturedWire | None = None,
    ) -> None:
        """Takes where to write, how and what, a function that returns how many threads there are, and the wire."""
        self._wire = wire
        self._sink, self._form, self._selection = sink, form, selection
        self._counts: Counts = {}
        self._seq, self._main = 0, 0
        self._made: list[trace_diff.Call] = []
        self._text = Text(sink.write, form.style, threads, sink.part if form.style.live else None)
        self._descriptors = _descriptors(plain=form.descriptors == 1) if form.descriptors else None
        #: The descriptors that were asked whether they are of netlink: those above, or others that are made when asked.
        self._asked = self._descriptors
        #: The wait status of the captured process, None until it has ended.
        self.ended: int | None = None

    @property
    def wants_entries(self) -> bool:
        """Returns True if `enter` is to be called."""
        return self._is_text and not (self._selection.judges_results or isinstance(self._sink, SplitSink))

    def begin(self, pid: int) -> None:
        """Begins to record; `pid` is the captured process. Raises CannotCapture: the file cannot be written."""
        self._sink.open()
        self._main = pid
        if self._form.html:
            from probes.cli.capture_html import head

            self._sink.part(head(pid))

    def finish(self) -> int:
        """Writes what remains and returns the exit status."""
        if self._wire is not None:
            self._frames(last=True)
        if self._form.html:
            from probes.cli.capture_html import END

            self._sink.part(END)
        if self._form.count:
            json_lines = map(_dumped, formats.as_json(self._counts))
            for line in json_lines if self._form.json else [formats.table(self._counts)]:
                self._sink.write(line)
        if self._form.compared is not None:
            return self._compare(self._form.compared)
        self._sink.close()
        if self.ended is None:
            return 0
        return 128 + os.WTERMSIG(self.ended) if os.WIFSIGNALED(self.ended) else os.WEXITSTATUS(self.ended)

    def _compare(self, theirs: Sequence[trace_diff.Call]) -> int:
        """Writes in what the other trace differs, and returns the exit status: 0 if in nothing, else 1."""
        from probes.report import trace_diff

        found = trace_diff.differences(self._made, theirs)
        for line in (line for difference in found for line in difference.lines()):
            self._sink.write(line)
        self._sink.write(f"{len(self._made)} calls here, {len(theirs)} there, {len(found)} differences")
        self._sink.close()
        return int(bool(found))

    @property
    def wants(self) -> Callable[[TracedCall], bool] | None:
        """Returns what says of a call at its entry whether it is recorded, None if all are."""
        is_plain = self._selection.wants_all and self._descriptors is None and not self._form.stack
        return None if is_plain else self._wants

    def netlink(self, pid: int, number: int) -> int | None:
        """Returns the protocol of a descriptor that is a socket of netlink, None for any other."""
        if self._asked is None:
            self._asked = _descriptors(plain=True)
        return self._asked.netlink(pid, number)

    @property
    def leave(self) -> Callable[[TracedCall], None] | None:
        """Returns what takes a call at its exit while its thread is stopped, None if nothing does."""
        return None if self._descriptors is None else self._leave

    def _wants(self, call: TracedCall) -> bool:
        if not self._selection.wants(call):
            return False
        if self._descriptors is not None:
            self._describe(call, descriptors_of(call))
        if self._form.stack:
            from probes.trace.stack import stack_of

            call.stack = stack_of(call)
        return True

    def _leave(self, call: TracedCall) -> None:
        self._describe(call, made_by(call))

    def _describe(self, call: TracedCall, numbers: Iterable[int]) -> None:
        assert self._descriptors is not None
        for number in numbers:
            if text := self._descriptors.describe(call.pid, number):
                call.sockets[number] = text

    def enter(self, call: TracedCall) -> None:
        """Takes a call at its entry."""
        if self._sink.is_open:
            self._text.enter(call)

    def call(self, call: TracedCall) -> None:
        """Takes a call that is over."""
        if self._wire is not None:
            self._frames()
        if not self._sink.is_open or not self._selection.wants_result(call):
            return
        if self._form.compared is not None:
            from probes.report import trace_diff

            self._made.append(trace_diff.of_decoded(call.tid, call.op, call.decoded(), call.ret))
        elif self._form.count:
            ebx = call.number if call.route == "socketcall" else None
            call_type = CallType(call.op, call.route, call.nr, ebx, call.gate, call.abi)
            formats.count(self._counts, call_type, call.ret, call.t_out - call.t_in)
        elif self._form.json:
            record = call.record()
            self._seq += 1
            record.seq = self._seq
            line = record.as_json()
            if call.injected:
                line["injected"] = True
            if call.sockets:
                line["sockets"] = {str(number): text for number, text in call.sockets.items()}
            if call.stack is not None:
                line["stack"] = [frame.as_json() for frame in call.stack.frames]
                line["stack_end"] = call.stack.end
            self._json(line, call.tid, call_text(call) if self._form.html else "")
        else:
            self._text.call(call)

    def signal(self, seen: Signal) -> None:
        """Takes a signal."""
        if self._selection.wants_signal(formats.signal_name(seen.number)) and self._is_listing:
            if self._form.json:
                self._event(seen)
            else:
                self._text.signal(seen)

    def exit(self, seen: Exit) -> None:
        """Takes the end of a thread."""
        if seen.tid == self._sink.process:
            return  # The tracer waits for all children, also for the command that lines go to.
        if self._is_listing:
            if self._form.json:
                self._event(seen)
            else:
                self._text.exit(seen)
            self._sink.ended(seen.tid)
        if seen.tid == seen.pid:
            self._selection.forget(seen.pid)
            if self._asked is not None:
                self._asked.forget(seen.pid)
        if seen.tid == self._main and self.ended is None:
            self.ended = seen.status

    def note(self, seen: Note) -> None:
        """Takes a remark."""
        if self._is_listing:
            if self._form.json:
                self._event(seen)
            else:
                self._text.note(seen)

    @property
    def _is_listing(self) -> bool:
        return self._sink.is_open and not self._form.count and self._form.compared is None

    @property
    def _is_text(self) -> bool:
        return not self._form.json and not self._form.count and self._form.compared is None

    def _event(self, event: Signal | Exit | Note) -> None:
        text = ""
        if self._form.html:
            text = signal_text(event) if isinstance(event, Signal) else ""
            text = f"+++ {formats.ending(event.status)} +++" if isinstance(event, Exit) else text
        self._seq += 1
        self._json({**event.as_json(), "seq": self._seq}, event.tid, text)

    def _json(self, line: dict[str, Json], tid: int, text: str) -> None:
        """Writes a line of JSON, in a page with its text, and with no character that ends the script there."""
        if self._form.html:
            # (A script has no integers of 64 bits.)
            exact = {name: [hex(word) for word in line[name]] for name in ("args", "args_after") if line.get(name)}
            line = {**line, **exact, "line": text}
        dumped = _dumped(line)
        self._sink.write(dumped.replace("<", "\\u003c") if self._form.html else dumped, tid)

    def _frames(self, last: bool = False) -> None:
        """Writes the frames that came since the last call; `last`: also those that are on their way."""
        assert self._wire is not None
        frames, text = self._wire.arrived(last)
        if text:
            self.note(Note(time.monotonic_ns(), self._main, self._main, text))
        for frame in frames if self._is_listing else ():
            if self._form.json:
                self._seq += 1
                self._json({**frame.as_json(), "seq": self._seq}, 0, frame.text if self._form.html else "")
            else:
                self._text.line(frame_text(frame), frame.t_ns, 0)


def _descriptors(plain: bool) -> Descriptors:
    from probes.trace.descriptors import Descriptors

    return Descriptors(plain)


def _dumped(line: Mapping[str, Json]) -> str:
    import json

    return json.dumps(line, separators=(",", ":"), ensure_ascii=False)
