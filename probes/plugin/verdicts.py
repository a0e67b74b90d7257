"""Judges a finished test from the sandbox's messages and the tracer's records; does no I/O."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from os import WEXITSTATUS, WIFEXITED, WIFSIGNALED, WTERMSIG
from typing import TypeVar

from probes.abi import notation
from probes.abi.frame import Frame
from probes.abi.operations import OPERATIONS
from probes.abi.record import Record
from probes.entry.memory import PAGE
from probes.plugin.withdrawal import withdraw
from probes.report.capture import signal_name
from probes.report.check import BOTH, Check, Json, Key
from probes.sandbox.messages import (
    Announced,
    Broke,
    Finished,
    FrameSeen,
    Judged,
    MachineLost,
    Message,
    NoAnswer,
    NotApplicable,
    SandboxFailed,
    SetUpRefused,
)
from probes.sandbox.sandbox import SandboxResult

_T = TypeVar("_T")
#: How the detail of a check begins whose call is not the judged one.
IN_SET_UP = "in set-up, "
#: How many calls a check that broke carries as evidence: the last ones.
_LAST_CALLS = 3
#: Signals that an instruction raises in its own process.
_FAULTS = (signal.SIGILL, signal.SIGTRAP, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV, signal.SIGSYS)


@dataclass(frozen=True)
class Subject:
    """What a test is about: the key of the whole test.

    `key.route` is the route that the test's calls take, "both" if the test calls over several routes itself.
    `observed` is True if a tracer watches its calls. `only` is the route of --route: other checks are left out.
    `partial`: the run judges some cases only (--case), so that a test may judge nothing. `under_filter`: the run is under a
    seccomp filter, which may answer calls.
    """

    key: Key
    observed: bool = True
    only: str | None = None
    partial: bool = False
    under_filter: bool = False

    def check(self, verdict: str, detail: str, rests_on: Sequence[int] = ()) -> Check:
        """Returns a check of the whole test, in which nothing was compared."""
        return Check(self.key, verdict, detail=detail, rests_on=list(rests_on))


@dataclass
class Judgement:
    """The checks of one test and the evidence that they rest on: calls in the order of entry, then frames."""

    checks: list[Check]
    records: list[Record]
    frames: list[Frame] = field(default_factory=list)

    def records_of(self, check: Check) -> list[Record]:
        """Returns the calls that a check rests on."""
        return [self.records[at] for at in check.rests_on if at < len(self.records)]

    def frames_of(self, check: Check) -> list[Frame]:
        """Returns the frames that a check rests on."""
        behind = (at - len(self.records) for at in check.rests_on)
        return [self.frames[at] for at in behind if 0 <= at < len(self.frames)]


def judge(subject: Subject, result: SandboxResult, pages: set[int]) -> Judgement:
    """Returns the checks of one test.

    `pages` are where the gates lie: a signal raised there is the call's doing. What the test judged comes first; how
    its process ended decides about what it had announced and not judged.
    """
    return _Judge(subject, result, pages).judgement()


class _Judge:
    def __init__(self, subject: Subject, result: SandboxResult, pages: set[int]) -> None:
        self._subject, self._result, self._pages = subject, result, pages
        self._announced = {one.number: one for one in _of_type(result.messages, Announced)}
        self._judged = _of_type(result.messages, Judged)
        self._records = result.records() or [record for one in self._judged for record in one.noted]
        traced = {record.call for record in self._records}
        # A refused call of a gate that is not traced has the gate's own note only.
        refusals = (message for message in result.messages if isinstance(message, SetUpRefused | NoAnswer))
        for refused in refusals:
            self._records += [record for record in refused.noted if record.call not in traced]
        self._frames = [one.frame for one in _of_type(result.messages, FrameSeen)]
        self._frame_at = {frame.number: len(self._records) + at for at, frame in enumerate(self._frames)}
        self._at: dict[int, list[int]] = {}
        for at, record in enumerate(self._records):
            if record.call is not None:
                self._at.setdefault(record.call, []).append(at)

    def judgement(self) -> Judgement:
        checks = [self._check(one) for one in self._judged]
        _mark_duplicates(checks)
        if self._subject.only is not None:
            checks = [check for check in checks if check.key.route in (self._subject.only, BOTH)]
        checks += _distinct(self._end(), checks)
        withdraw(checks, self._records, self._subject.under_filter)
        return Judgement(checks, self._records, self._frames)

    def _check(self, judged: Judged) -> Check:
        announced = self._announced.get(judged.number)
        if announced is None:
            key = replace(self._subject.key, case="announced=no")
            return Check(key, "broke", detail=f"value number {judged.number} was judged, but not announced")
        calls = list(dict.fromkeys(judged.calls))
        rests_on = sorted(at for call in calls for at in self._at.get(call, ()))
        records = [self._records[at] for at in rests_on]
        check = Check(
            self._key(announced, records), "", announced.expected, judged.actual, range=judged.range,
            difference=announced.difference,
            rests_on=rests_on + [self._frame_at[number] for number in judged.frames if number in self._frame_at],
        )  # fmt: skip
        missing = self._missing(judged)
        if (judged.record_field or judged.in_order) and not self._subject.observed:
            seen = judged.record_field or "when calls begin and end"
            check.verdict, check.detail = "not_applicable", f"a tracer, to see {seen}"
        elif missing:
            check.verdict, check.detail = "broke", f"{missing}: there is no evidence"
        elif check.key.route != self._subject.key.route != BOTH:
            check.verdict = "broke"
            check.detail = (
                f"the judged call took route {check.key.route}: mark the test with the route of its calls, or name the "
                "call whose effect is judged"
            )
        else:
            if judged.record_field:
                check.actual = [_field_of(record, judged.record_field) for record in records]
                check.detail = f"{judged.record_field} as the tracer saw it"
            if judged.in_order:
                check.actual = self._among_calls(judged, records)
            check.verdict = "conforms" if check.expected == check.actual else "deviates"
        return check

    def _among_calls(self, judged: Judged, records: Sequence[Record]) -> Json:
        """Returns what was judged of each frame, with the begins and ends of the calls, by their times."""
        shown = judged.actual if isinstance(judged.actual, list) else []
        times = [self._frames[self._frame_at[number] - len(self._records)].t_ns for number in judged.frames]
        timed = [*zip(times, shown, strict=False)]
        for record in records:
            timed.append((record.t_ns, notation.call_begins(record.op)))
            if record.dur_ns is not None:
                timed.append((record.t_ns + record.dur_ns, notation.call_ends(record.op)))
        return [event for _, event in sorted(timed, key=lambda one: one[0])]

    def _missing(self, judged: Judged) -> str:
        """Says what a value rests on that was never seen; "" if all was."""
        for call in judged.calls:
            if call not in self._at:
                return f"no tracer saw call {call}"
        for number in judged.frames:
            if number not in self._frame_at:
                return f"frame {number} was not sent"
        return "" if _is_field(judged.record_field) else f"records have no field {judged.record_field!r}"

    def _key(self, announced: Announced, records: Sequence[Record]) -> Key:
        """Returns the key of a check: its route and gate are those of the calls that it rests on."""
        gates = {record.gate for record in records}
        key = replace(self._subject.key, case=announced.case)
        return replace(key, route=route_of(records) or key.route, gate=gates.pop() if len(gates) == 1 else key.gate)

    def _end(self) -> list[Check]:
        """Returns the checks about how the test ended, if there is something to report."""
        messages, subject = self._result.messages, self._subject
        for failed in _of_type(messages, SandboxFailed):
            return [subject.check("broke", f"the sandbox could not be made: {failed.why}")]
        judged = {one.number for one in self._judged}
        for lost in _of_type(messages, MachineLost):
            open_ = [one for number, one in self._announced.items() if number not in judged]
            return [Check(self._key(one, []), "lost", one.expected, detail=lost.why) for one in open_] or [
                subject.check("lost", lost.why)
            ]
        if self._result.damage:
            return [subject.check("broke", f"the channel was damaged: {self._result.damage}")]
        pending = [one for number, one in self._announced.items() if number not in judged]
        for refused in _of_type(messages, SetUpRefused):
            return self._refused(refused, pending)
        for unanswered in _of_type(messages, NoAnswer):
            return self._unanswered(unanswered, pending)
        finished = bool(_of_type(messages, Finished))
        error = next((one.why for one in _of_type(messages, Broke)), None)
        if finished and error is None:
            return self._finished(pending)
        if finished:
            return [self._broke(error or "", pending)]
        return self._unfinished(pending)

    def _finished(self, pending: Sequence[Announced]) -> list[Check]:
        """Returns the checks about a test that says that it ran to its end: it has judged something, and all it announced.

        `expect` requires this in the sandbox; a test may have sent the message by itself.
        """
        for one in _of_type(self._result.messages, NotApplicable):
            return [self._subject.check("not_applicable", one.missing)]
        if pending:
            return [self._broke("announced and never judged", pending)]
        return [] if self._judged or self._subject.partial else [self._broke("the test judged nothing", ())]

    def _refused(self, refused: SetUpRefused, pending: Sequence[Announced]) -> list[Check]:
        """Returns the checks about a documented call refused in set-up: all that was announced deviates, or the set-up."""
        rests_on = self._at.get(refused.call, [])
        key = replace(self._subject.key, case=f"{self._subject.key.case} set-up=refused".strip())
        checks = [Check(self._key(one, []), "deviates", one.expected) for one in pending] or [
            Check(key, "deviates", "success")
        ]
        for check in checks:
            check.actual, check.rests_on = refused.error, list(rests_on)
            check.detail = f"{IN_SET_UP}{refused.why} was refused"
        return checks

    def _unanswered(self, unanswered: NoAnswer, pending: Sequence[Announced]) -> list[Check]:
        """Returns the checks about a call that ended its process, or did not return: they deviate as in `_refused`."""
        rests_on = self._at.get(unanswered.call, [])
        records, how, why = [self._records[at] for at in rests_on], unanswered.how, unanswered.why
        checks = [Check(self._key(one, records), "deviates", one.expected, how, why, list(rests_on)) for one in pending]
        if checks:
            return checks
        key = replace(self._subject.key, case=f"{self._subject.key.case} set-up=refused".strip())
        why = why if why.startswith(IN_SET_UP) else f"{IN_SET_UP}{why}"
        return [Check(key, "deviates", "success", how, why, list(rests_on))]

    def _broke(self, why: str, pending: Sequence[Announced], rests_on: Sequence[int] = ()) -> Check:
        last = range(max(0, len(self._records) - _LAST_CALLS), len(self._records))
        check = self._subject.check("broke", why, rests_on or last)
        if pending:
            check.key, check.expected = replace(check.key, case=pending[-1].case), pending[-1].expected
        return check

    def _unfinished(self, pending: Sequence[Announced]) -> list[Check]:
        """Returns the checks about a process that ended before its test: those announced before the fatal call deviate."""
        result, how = self._result, ending(self._result)
        fault = any(one.number in _FAULTS and one.ip & -PAGE in self._pages for one in result.signals)
        killed = not result.late and result.status is not None and WIFSIGNALED(result.status)
        checks = []
        for announced in pending:
            entered = [at for at, record in enumerate(self._records) if (record.call or 0) > announced.number]
            records = [self._records[at] for at in entered]
            blocked = result.late and any(record.ret is None for record in records)
            # Where no tracer watches, what was announced is all that is known of the call.
            unseen = not self._subject.observed and (result.late or killed)
            if blocked or unseen or (killed and (entered or fault)):
                actual = "no return" if blocked or (unseen and result.late) else how
                key = self._key(announced, records[-1:])
                checks.append(Check(key, "deviates", announced.expected, actual, how, entered))
        entered = [at for at, record in enumerate(self._records) if pending and (record.call or 0) > pending[-1].number]
        why = f"the test's process ended before the test did: {how}"
        return checks or [self._broke(why, pending, entered)]


def route_of(records: Sequence[Record]) -> str:
    """Returns the route of the operations among calls, "both" if they took both; "direct" where there is none.

    Another system call (close, fcntl, …) has its number alone, so beside an operation it does not count. "" for no
    calls.
    """
    operations = {record.route for record in records if record.route == "socketcall" or record.op in OPERATIONS}
    routes = operations or {record.route for record in records}
    return BOTH if len(routes) > 1 else next(iter(routes), "")


def ending(result: SandboxResult) -> str:
    """Returns how the body's process ended, in words: `died SIGSEGV`, `exited 3`, `no return before the deadline`."""
    if result.late:
        return "no return before the deadline"
    if result.status is None:
        return "vanished"
    return how_ended(result.status)


def how_ended(status: int) -> str:
    """Returns a wait status in words: `died SIGSEGV`, `exited 3`."""
    if WIFSIGNALED(status):
        return f"died {signal_name(WTERMSIG(status))}"
    return f"exited {WEXITSTATUS(status) if WIFEXITED(status) else status}"


def _mark_duplicates(checks: Sequence[Check]) -> None:
    seen: set[Key] = set()
    for check in checks:
        if check.key in seen:
            check.verdict, check.detail = "broke", "judged twice: the case must tell the two apart"
        seen.add(check.key)


def _distinct(end: Sequence[Check], judged: Sequence[Check]) -> list[Check]:
    """Returns the checks about the end of a test with keys that no other has.

    What was announced for another route, and never called, has the key of the call that ended the test: one is enough.
    """
    before, found = {check.key for check in judged}, dict[Key, Check]()
    for check in end:
        if check.key in before:
            check.key = replace(check.key, case=f"{check.key.case} ended=early".strip())
        found.setdefault(check.key, check)
    return list(found.values())


def _is_field(path: str) -> bool:
    """Returns True if `_field_of` has a value for a path; "" stands for no field."""
    name, dot, _ = path.partition(".")
    if dot:
        return name in ("regs_in", "regs_out")
    return not path or name in Record.__dataclass_fields__ or isinstance(getattr(Record, name, None), property)


def _field_of(record: Record, path: str) -> Json:
    """Returns the value of a record's field; of `regs_in.NAME` the register as a number."""
    name, _, register = path.partition(".")
    value = getattr(record, name)
    if register:
        return int((value or {}).get(register, "-1"), 16)
    return list(value) if isinstance(value, tuple) else value


def _of_type(messages: Sequence[Message], kind: type[_T]) -> list[_T]:
    return [message for message in messages if isinstance(message, kind)]
