"""How a test judges: `expect` for behaviours, `need` for set-up, `not_applicable` for what is missing."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol

from _pytest.outcomes import Skipped

from probes.abi.record import shown
from probes.entry.gate import WORD, Result, call_number
from probes.entry.sweep import Swept
from probes.sandbox.wire import Frame
from probes.testing.reference import Reference, resolved

#: Surprises of a range that are made again, traced, for the report.
_SHOWN_SURPRISES = 8


class Broke(Exception):
    """Set-up failed: nothing was judged."""


class NotApplicable(Skipped):
    """Something that a behaviour is about is not here: a privilege, a protocol, a version."""


def need(result: Result, why: str = "") -> int:
    """The value of a result that set-up rests on. Raises Broke if it is an error."""
    if result < 0:
        raise Broke(f"{why or 'set-up'}: {result!r} from eax={result.regs_in[_EAX]}, call {result.call}")
    return int(result)


_EAX = "eax" if WORD == 32 else "rax"


def not_applicable(missing: str) -> NoReturn:
    """Ends the test: what it judges cannot be judged without `missing`. Never for an answer of the judged call."""
    if not missing.strip():
        raise Broke("not applicable, but nothing was named as missing")
    raise NotApplicable(missing)


class Speaker(Protocol):
    """Where messages go: probes.sandbox.channel.Channel."""

    def say(self, message: Any) -> None:
        """Adds a message."""


@dataclass(frozen=True)
class Key:
    """What a check is known by, on every machine and in every run."""

    id: str
    case: str
    route: str
    gate: str
    word: int

    def __str__(self) -> str:
        case = f"[{self.case}] " if self.case else ""
        return f"{self.id} {case}{self.route} {self.gate} {self.word}-bit"


def case_text(pairs: Mapping[str, object]) -> str:
    """The case of a key: name=value pairs in the order given. Raises Broke for a value that cannot be told apart."""
    texts = []
    for name, value in pairs.items():
        text = str(getattr(value, "name", value))
        if not text or any(c in text for c in " =[]|*?"):
            raise Broke(f"a case needs values without spaces and any of =[]|*?: {name}={text!r}")
        texts.append(f"{name}={text}")
    return " ".join(texts)


def plain(value: object) -> Any:
    """A value as JSON carries it; bytes as {"bytes": hex}. Raises Broke for one that allows several answers."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [plain(item) for item in value]
    raise Broke(f"{type(value).__name__} is nothing that one answer can equal")


@dataclass
class Expectation:
    """An expected value, announced before the call that it judges: a call that never comes back has failed it."""

    expect: Expect
    key: Key
    value: object
    wanted: bool
    difference: dict[str, Any] | None

    def of(self, actual: object, *rests_on: Result | Frame) -> None:
        """Judges a result, a range, or any value together with the results, and frames, that it rests on. The test goes
        on either way."""
        results = [one for one in rests_on if isinstance(one, Result)]
        frames = [one for one in rests_on if isinstance(one, Frame)]
        if isinstance(actual, Swept):
            self._judge_range(actual)
        elif isinstance(actual, Result):
            self._judge(plain(actual), [actual, *results])
        elif results:
            more = {"frames": self.expect.shown(frames)} if frames else {}
            self._judge(plain(actual), results, **more)
        else:
            raise Broke(f"{self.key}: a value that is no result needs the results it rests on")

    def seen(self, field: str, *results: Result) -> None:
        """Judges what the tracer saw of calls: a field of their records (`ret`, `nr`, `regs_in.ebx`), one value for
        each record, in the order of entry. A call that the kernel restarts has several. Judged in the parent."""
        if not results:
            raise Broke(f"{self.key}: nothing was called that a tracer could have seen")
        seen = {
            "verdict": "unjudged",
            "expected": plain(self.value),
            "calls": [r.call for r in results],
            "field": field,
        }
        self.expect.finished(self, {**self.key.__dict__, **seen, **self._differs()})

    def _differs(self) -> dict[str, Any]:
        if self.difference is None:
            return {}
        return {"difference": {name: plain(item) for name, item in self.difference.items()}}

    def _judge(self, actual: Any, results: Sequence[Result], **more: Any) -> None:
        expected = plain(self.value)
        verdict = "conforms" if expected == actual else "deviates"
        judged = {"verdict": verdict, "expected": expected, "actual": actual, "calls": [r.call for r in results]}
        self.expect.finished(self, {**self.key.__dict__, **judged, **more, **self._differs()})

    def _judge_range(self, swept: Swept) -> None:
        surprises = [(value, result) for value, result in swept if result != self.value]
        members = [swept.values[0], swept.values[-1], *(value for value, _ in surprises[:_SHOWN_SURPRISES])]
        traced = {value: swept.again(value) for value in dict.fromkeys(members)}
        # The traced ones are judged as well: the loop and the gate must tell the same.
        told = [(value, int(result)) for value, result in traced.items() if result != self.value]
        odd = surprises or told
        actual: Any = plain(self.value)
        if surprises:
            actual = {shown(result): count for result, count in swept.histogram.items()}
        elif told:
            actual = {shown(result): f"traced, value {value}" for value, result in told}
        self._judge(
            actual,
            list(traced.values()),
            range={
                "first": swept.values.start, "last": swept.values[-1], "count": len(swept.values),
                "histogram": {str(result): count for result, count in swept.histogram.items()},
                "surprises": [list(pair) for pair in odd[:1000]], "surprising": len(odd),
                "seconds": round(swept.seconds, 6),
            },
        )  # fmt: skip


@dataclass
class Expect:
    """The only way to judge: `expect(-EACCES, port=80).of(socket.bind(address))`.

    `expect(value, **case)` announces; Python evaluates it before the argument of `of`, which makes the call. So a call
    that kills its process or never returns has failed a known check. The keywords are the case; parameters of the test
    come before them by themselves. Where genuine kernels differ the value is an AbiDifference or a
    VersionDifference, with its cite.
    """

    speaker: Speaker
    id: str
    parameters: Mapping[str, object]
    route: str
    gate: str
    reference: Reference
    only: str | None = None
    _seen: set[Key] = field(default_factory=set)
    _shown: set[int] = field(default_factory=set)
    _open: Expectation | None = None

    def __call__(self, value: object, **case: object) -> Expectation:
        self._settled()
        pairs = {**self.parameters, **case}
        key = Key(self.id, case_text(pairs), self.route, self.gate, WORD)
        if key in self._seen:
            raise Broke(f"{key} is judged twice: the case must tell them apart")
        self._seen.add(key)
        wanted = self.only is None or fnmatch.fnmatchcase(key.case, self.only)
        expected, difference = resolved(value, self.reference)
        self._open = Expectation(self, key, expected, wanted, difference)
        if wanted:
            # Calls with a higher number come after this.
            self.speaker.say({"expect": {**key.__dict__, "expected": plain(expected), "number": call_number()}})
        return self._open

    def shown(self, frames: Sequence[Frame]) -> list[int]:
        """Brings frames to the evidence, each once, and returns their numbers. For Expectation only."""
        for frame in frames:
            if frame.number not in self._shown:
                self._shown.add(frame.number)
                line = {"number": frame.number, "t_ns": frame.t_ns, "link": frame.link, "raw": frame.raw.hex()}
                self.speaker.say({"frame": line})
        return [frame.number for frame in frames]

    def finished(self, expectation: Expectation, check: dict[str, Any]) -> None:
        """Takes a judged check. For Expectation only."""
        if expectation is not self._open:
            raise Broke(f"{expectation.key}: judged twice, or not in its turn")
        self._open = None
        if expectation.wanted:
            self.speaker.say({"check": check})

    def _settled(self) -> None:
        if self._open is not None:
            raise Broke(f"{self._open.key}: announced and never judged")

    def close(self) -> None:
        """At the end of the test. Raises Broke if something announced was never judged, or nothing was."""
        self._settled()
        if not self._seen:
            raise Broke("the test judged nothing")
