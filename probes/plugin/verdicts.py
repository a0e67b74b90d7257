"""From what a sandbox left behind to verdicts: pure, in the parent, with the tracer's records in hand."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from os import WEXITSTATUS, WIFEXITED, WIFSIGNALED, WTERMSIG
from typing import Any

from probes.abi.record import Record
from probes.entry.memory import PAGE
from probes.sandbox.sandbox import SandboxResult

#: Signals that an instruction brings upon itself.
_FAULTS = (signal.SIGILL, signal.SIGTRAP, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV, signal.SIGSYS)
VERDICTS = ("conforms", "deviates", "broke", "not_applicable", "lost", "not_run")
Check = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """What a test is about: the key of whatever it does not reach itself. `observed`: a tracer watches its calls."""

    id: str
    case: str
    route: str
    gate: str
    word: int
    observed: bool = True

    def key(self) -> Check:
        """The five fields by which the whole test is known."""
        return {"id": self.id, "case": self.case, "route": self.route, "gate": self.gate, "word": self.word}

    def check(self, verdict: str, detail: str, **more: Any) -> Check:
        """A check of the whole test."""
        return whole(self.key(), verdict, detail, **more)


def whole(key: Mapping[str, Any], verdict: str, detail: str, **more: Any) -> Check:
    """A check of a whole test, of which nothing is known but its key."""
    return {**key, "verdict": verdict, "expected": None, "actual": None, "calls": [], "detail": detail, **more}


def judge(subject: Subject, outcome: SandboxResult, records: list[Record], pages: set[int]) -> list[Check]:
    """The checks of one test, each with `seq`: the records it rests on.

    `pages` are where the gates lie: a signal from there is the call's doing. What the test said itself comes first; how
    its process ended decides about what it had announced and not judged.
    """
    said = [message["check"] for message in outcome.messages if "check" in message]
    checks = [check for check in said if check.get("verdict")]
    by_call: dict[int, list[Record]] = {}
    for record in records:
        if record.call is not None:
            by_call.setdefault(record.call, []).append(record)
    frames = {line["number"]: line["seq"] for line in frame_lines(outcome, len(records))}
    for check in checks:
        found = sorted(
            (r for call in dict.fromkeys(check["calls"]) for r in by_call.get(call, ())), key=lambda r: r.seq
        )
        check["seq"] = [record.seq for record in found]
        check["seq"] += [frames[number] for number in check.pop("frames", ())]
        if "field" in check:
            _judge_seen(check, check.pop("field"), found, subject.observed)
        unseen = [call for call in check["calls"] if call not in by_call]
        if unseen and subject.observed:
            check.update(verdict="broke", detail=f"no tracer saw call {unseen[0]}: there is no evidence")
    end = _end(subject, outcome, records, pages)
    if end is not None:
        checks.append(end)
    for check in checks:
        check.setdefault("seq", [])
        check.setdefault("detail", "")
    return checks


def frame_lines(outcome: SandboxResult, after: int) -> list[dict[str, Any]]:
    """The frames that checks of a test rest on, as lines of evidence numbered from `after` + 1 on."""
    frames = [message["frame"] for message in outcome.messages if "frame" in message]
    return [{"type": "frame", "seq": seq, **frame} for seq, frame in enumerate(frames, after + 1)]


def _judge_seen(check: Check, field: str, records: list[Record], observed: bool) -> None:
    """The verdict about what a tracer saw; see Expectation.seen."""
    if not observed:
        check.update(verdict="not_applicable", detail=f"a tracer, to see {field}")
        return
    check["detail"] = f"{field} as the tracer saw it"
    name, _, key = field.partition(".")
    values: list[Any] = [getattr(record, name) for record in records]
    if key:
        values = [int((value or {}).get(key, "-1"), 16) for value in values]
    check["actual"] = [list(value) if isinstance(value, tuple) else value for value in values]
    check["verdict"] = "conforms" if check["expected"] == check["actual"] else "deviates"


def _end(subject: Subject, outcome: SandboxResult, records: list[Record], pages: set[int]) -> Check | None:
    """The check about how the test ended, if there is something to say."""
    for message in outcome.messages:
        if "sandbox" in message:
            return subject.check("broke", f"the sandbox could not be made: {message['sandbox']}")
    finished = any("finished" in message for message in outcome.messages)
    missing = next((m["not_applicable"] for m in outcome.messages if "not_applicable" in m), None)
    error = next((m["broke"] for m in outcome.messages if "broke" in m), None)
    pending = _pending(outcome)
    if finished and error is None:
        return None if missing is None else subject.check("not_applicable", missing)
    if finished:
        if pending:
            del pending["number"]
        return _at(pending, subject.check("broke", error or ""))
    return _unfinished(subject, outcome, records, pages, pending)


def _unfinished(
    subject: Subject, outcome: SandboxResult, records: list[Record], pages: set[int], pending: Check | None
) -> Check:
    how = ending(outcome)
    # A call that was entered after the announcement is the one it is about.
    announced = pending.pop("number") if pending else 0
    entered = [record for record in records if pending and (record.call or 0) > announced]
    fault = any(s.number in _FAULTS and s.ip & -PAGE in pages for s in outcome.signals)
    blocked = outcome.late and any(record.ret is None for record in entered)
    killed = not outcome.late and outcome.status is not None and WIFSIGNALED(outcome.status) and (entered or fault)
    seq = [record.seq for record in entered]
    if pending and (blocked or killed):
        actual = "no return" if blocked else how
        return {**pending, "verdict": "deviates", "actual": actual, "calls": [], "seq": seq, "detail": how}
    return _at(pending, subject.check("broke", f"the test's process ended before the test did: {how}", seq=seq))


def ending(outcome: SandboxResult) -> str:
    """How the body's process ended, in words: `died SIGSEGV`, `exited 3`, `no return`."""
    if outcome.late:
        return "no return before the deadline"
    if outcome.status is None:
        return "vanished"
    if WIFSIGNALED(outcome.status):
        return f"died {signal.Signals(WTERMSIG(outcome.status)).name}"
    return f"exited {WEXITSTATUS(outcome.status) if WIFEXITED(outcome.status) else outcome.status}"


def _pending(outcome: SandboxResult) -> Check | None:
    """What was announced last, if it was not judged."""
    last: Check | None = None
    for message in outcome.messages:
        if "expect" in message:
            last = message["expect"]
        elif "check" in message:
            last = None
    return last


def _at(pending: Mapping[str, Any] | None, check: Check) -> Check:
    if pending is None:
        return check
    return {**check, **pending}
