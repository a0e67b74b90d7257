"""How a test judges: `expect` for behaviours, `need` for set-up, `not_applicable` for what is missing.

A check is announced before the call that it judges, so a call that never returns has failed a known check:

    expect(-EACCES, port=80).of(socket.bind(address))

    check = expect(b"abc", reader="peer")
    sent = socket.send(b"abc")
    check.of(peer.recv(3), sent)
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn, Protocol

from _pytest.outcomes import Skipped

from probes.abi.frame import Frame
from probes.abi.operations import RETURN_ZERO
from probes.abi.record import shown
from probes.entry.calls import Output, SetUpRefused
from probes.entry.gate import Result, next_call_id, same_process
from probes.entry.sweep import Swept
from probes.report.check import Json, Range
from probes.sandbox.messages import Announced, FrameSeen, Judged, Message
from probes.testing.reference import Reference, resolved

#: How many unexpected members of a range are called again through the traced gate, for evidence.
_TRACED_SURPRISES = 8
#: How many unexpected members of a range are listed.
_LISTED_SURPRISES = 1000


class Broke(Exception):
    """The set-up of a test, or the test itself, failed: nothing was judged."""


class NotApplicable(Skipped):
    """What a behaviour needs is missing here: a privilege, a protocol, a kernel version."""


def need(done: Result | Output, why: str = "a documented call", *, returns: int | None = None) -> int:
    """Returns the value of a result that set-up rests on: a success, or `returns`, the error that the set-up is about.

    Raises SetUpRefused if it is another: a success that documents 0 is 0.
    """
    result = done.result if isinstance(done, Output) else done
    # Compared as a number: a recorded result notes what the test compares.
    value = int(result)
    if _watch is not None:
        _watch.needed(result, returns)
    more = value > 0 and result.operation in RETURN_ZERO
    if (value < 0 or more) if returns is None else value != returns:
        raise SetUpRefused(result, why)
    return value


def not_applicable(missing: str) -> NoReturn:
    """Ends the test: what it judges cannot be judged without `missing`. Never for an answer of the judged call."""
    if not missing.strip():
        raise Broke("not applicable, but nothing was named as missing")
    raise NotApplicable(missing)


class Watch(Protocol):
    """Follows what a test announces, judges and needs: probes.script.watch does, for `socketcall record`."""

    def announced(self, expectation: Expectation, value: object) -> None:
        """Takes a check, and its value before a difference of kernels is resolved."""

    def judged(self, expectation: Expectation, actual: object, results: Sequence[Result]) -> None:
        """Takes what a check is judged by, and the results that this rests on."""

    def needed(self, result: Result, returns: int | None) -> None:
        """Takes the result of a call that set-up rests on, and what it must be; see `need`."""


_watch: Watch | None = None


def watch(by: Watch | None) -> None:
    """Lets everything that the tests of this process judge and need be followed, None: no longer."""
    global _watch
    _watch = by


class Sender(Protocol):
    """Takes messages for the parent: probes.sandbox.channel.Channel."""

    def send(self, message: Message) -> None:
        """Appends a message."""


def case_text(pairs: Mapping[str, object]) -> str:
    """Returns the case of a key: name=value pairs in the order given. Raises Broke for an ambiguous value."""
    texts = []
    for name, value in pairs.items():
        text = str(getattr(value, "name", value))
        if not text or any(c in text for c in " =[]|*?"):
            raise Broke(f"a case needs values without spaces and any of =[]|*?: {name}={text!r}")
        texts.append(f"{name}={text}")
    return " ".join(texts)


def to_json(value: object) -> Json:
    """Returns a value as JSON carries it; bytes as {"bytes": hex}. Raises Broke for one that allows several answers."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [to_json(item) for item in value]
    raise Broke(f"{type(value).__name__}: an expected value is one that a single answer equals")


@dataclass
class Expectation:
    """An expected value, announced before the call that it judges; `of` or `seen` judges it, once."""

    expect: Expect
    case: str
    value: object
    #: The number of the announcement: calls with a higher number come after it.
    number: int
    #: False if --case leaves this check out.
    wanted: bool

    def of(self, actual: object, *rests_on: Result | Output | Frame) -> None:
        """Judges what a call returned: a result, the bytes it wrote (Output), or a swept range.

        Any other value is judged together with the results, and frames, that it rests on. An Output whose call was
        refused is judged by its error, a value that rests on a call which documents 0 and returned more by that result.
        The test goes on either way.
        """
        results = [one.result if isinstance(one, Output) else one for one in rests_on if not isinstance(one, Frame)]
        frames = [one for one in rests_on if isinstance(one, Frame)]
        if _watch is not None:
            _watch.judged(self, actual, results)
        if isinstance(actual, Swept):
            self._judge_range(actual)
            return
        if isinstance(actual, Output):
            results, actual = [actual.result, *results], actual.actual
        elif isinstance(actual, Result):
            results = [actual, *results]
        elif more := next((one for one in results if int(one) > 0 and one.operation in RETURN_ZERO), None):
            actual = f"{more.operation} returned {more}"
        self._send(to_json(actual), results, frames=self.expect.send_frames(frames))

    def in_order(self, shown: Sequence[object], frames: Sequence[Frame], *rests_on: Result | Output) -> None:
        """Judges frames among the calls that they rest on: `shown` is what is compared of each.

        The parent, which has the times of the calls, puts their begins and ends among the frames.
        """
        results = [one.result if isinstance(one, Output) else one for one in rests_on]
        if _watch is not None:
            _watch.judged(self, None, results)
        self._send(to_json(shown), results, frames=self.expect.send_frames(frames), in_order=True)

    def seen(self, name: str, *results: Result) -> None:
        """Judges what the tracer saw of calls: a field of their records (`ret`, `nr`, `regs_in.ebx`).

        There is one value for each record, in the order of entry; a call that the kernel restarts has several. The
        records are in the parent, which judges them.
        """
        if _watch is not None:
            _watch.judged(self, None, results)
        self._send(None, results, name=name)

    def _send(
        self,
        actual: Json,
        results: Sequence[Result],
        *,
        frames: Sequence[int] = (),
        name: str = "",
        span: Range | None = None,
        in_order: bool = False,
    ) -> None:
        if not results:
            raise Broke(f"{self}: a value that is no result needs the results it rests on")
        early = [
            result for result in results if same_process(result.call_id, self.number) and result.call_id < self.number
        ]
        if early:
            raise Broke(f"{self}: announced after the call that it judges; write expect(…) before the call")
        self.expect.settle(self)
        if self.wanted:
            noted = () if self.expect.observed else tuple(result.record() for result in results)
            calls = [result.call_id for result in results]
            self.expect.sender.send(Judged(self.number, actual, calls, list(frames), name, span, noted, in_order))

    def _judge_range(self, swept: Swept) -> None:
        surprises = [(value, result) for value, result in swept if result != self.value]
        members = [swept.values[0], swept.values[-1], *(value for value, _ in surprises[:_TRACED_SURPRISES])]
        traced = {value: swept.again(value) for value in dict.fromkeys(members)}
        # The traced calls are judged too: the loop and the gate must give the same results.
        again = [(value, int(result)) for value, result in traced.items() if result != self.value]
        odd = surprises or again
        actual: Json = to_json(self.value)
        if surprises:
            actual = {shown(result): count for result, count in swept.histogram.items()}
        elif again:
            actual = {shown(result): f"traced, value {value}" for value, result in again}
        span = Range(
            swept.values[0], swept.values[-1], len(swept.values),
            {str(result): count for result, count in swept.histogram.items()},
            [list(pair) for pair in odd[:_LISTED_SURPRISES]], len(odd), round(swept.seconds, 6),
        )  # fmt: skip
        self._send(actual, list(traced.values()), span=span)

    def __str__(self) -> str:
        """Returns the id and the case."""
        return f"{self.expect.id} [{self.case}]" if self.case else self.expect.id


@dataclass
class Expect:
    """The only way to judge: `expect(value, **case)` announces a check and returns its Expectation.

    The keywords are the case; the parameters of the test come before them by themselves. Where genuine kernels differ
    the value is an AbiDifference or a VersionDifference, which carry their citation. `observed` is False where no
    tracer watches the test: then the gate's own note of a call is its record. `only` is the glob of --case.
    """

    sender: Sender
    id: str
    parameters: Mapping[str, object]
    reference: Reference
    only: str | None = None
    observed: bool = True
    #: The cases that `only` left out.
    left_out: set[str] = field(default_factory=set)
    _open: dict[int, Expectation] = field(default_factory=dict)
    _judged: int = 0
    _frames: set[int] = field(default_factory=set)

    def __call__(self, value: object, **case: object) -> Expectation:
        """Announces a check. Raises Broke for a case or a value that cannot be one."""
        text = case_text({**self.parameters, **case})
        expected, difference = resolved(value, self.reference)
        wanted = self.only is None or fnmatch.fnmatchcase(text, self.only)
        announced = Expectation(self, text, expected, next_call_id(), wanted)
        self._open[announced.number] = announced
        if _watch is not None:
            _watch.announced(announced, value)
        if wanted:
            noted = None if difference is None else to_json(difference)
            self.sender.send(Announced(announced.number, text, to_json(expected), noted))
        else:
            self.left_out.add(text)
        return announced

    def send_frames(self, frames: Sequence[Frame]) -> list[int]:
        """Adds frames to the evidence, each once, and returns their numbers. For Expectation only."""
        for frame in frames:
            if frame.number not in self._frames:
                self._frames.add(frame.number)
                self.sender.send(FrameSeen(frame))
        return [frame.number for frame in frames]

    def settle(self, expectation: Expectation) -> None:
        """Marks a check as judged. Raises Broke if it was judged before. For Expectation only."""
        if self._open.pop(expectation.number, None) is None:
            raise Broke(f"{expectation}: judged twice")
        self._judged += 1

    def close(self) -> None:
        """Ends the test. Raises Broke if an announced check was never judged, or the test judged nothing."""
        if self._open:
            raise Broke(f"{next(iter(self._open.values()))}: announced and never judged")
        if not self._judged:
            raise Broke("the test judged nothing")
