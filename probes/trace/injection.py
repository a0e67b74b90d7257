"""Make the kernel wrong on purpose: change traced calls at their entry or exit, as the caller sees them.

    Injection(Match("getsockname", outcome="success"), exit=Add(Place("addrlen"), 4))

The record of a changed call has what its caller passed and what it got, the change included. Calls that are not traced
(quiet gates, machine-code loops) are the kernel's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from probes.trace import ptrace
from probes.trace.actions import Action, Again
from probes.trace.stop import ARGUMENTS, LOW, WORD, Stop
from probes.trace.traced_call import TracedCall


@dataclass(frozen=True)
class Match:
    """Chooses calls. What is None or empty matches all.

    `outcome` is a result (-13, 0), "success" or "error"; at an entry it is not known, and matches all. `words` are
    argument words by position. `where` is asked last. `nth` is the number of the one call that is chosen among those that
    match, from 1 on.
    """

    operation: str | None = None
    route: str | None = None
    outcome: int | str | None = None
    words: Mapping[int, int] = field(default_factory=dict)
    address: bytes = b""
    where: Callable[[Stop], bool] | None = None
    nth: int | None = None

    def fits(self, stop: Stop, left: bool) -> bool:
        """Return True if a call matches; `left`: it is at its exit."""
        call = stop.call
        if self.operation is not None and call.op != self.operation:
            return False
        if self.route is not None and call.route != self.route:
            return False
        if any(index >= len(call.args) or stop.word(index) != value & LOW for index, value in self.words.items()):
            return False
        if self.address and bytes(call.before.get("addr", b"")) != self.address:
            return False
        if left and self.outcome is not None and not self._came(stop.result):
            return False
        return self.where is None or self.where(stop)

    def _came(self, result: int) -> bool:
        failed = -4096 < result < 0
        if isinstance(self.outcome, str):
            return failed == (self.outcome == "error")
        return result == self.outcome


@dataclass
class Injection:
    """Makes every chosen call wrong in one way. `done` counts the calls that were changed, `first` is the first one's id."""

    match: Match
    entry: Action | None = None
    exit: Action | None = None
    done: int = 0
    first: int | None = None
    _matched: int = 0
    _passed: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    _again: set[int] = field(default_factory=set)

    def enter(self, call: TracedCall) -> None:
        """Change a call at its entry stop, after its record was begun."""
        if self.entry is None:
            return
        # A thread that was killed in a call has left what it passed, and another may have its number.
        self._passed.pop(call.tid, None)
        stop = Stop(call)
        passed = call.args_ptr or 0, stop.raw
        if self.match.fits(stop, left=False) and self._counts() and self.entry(stop):
            # Only what was changed is put back: a caller may change its words while the call is blocked.
            self._passed[call.tid] = passed
            self._changed(call)

    def leave(self, call: TracedCall) -> None:
        """Change a call at its exit stop, before its record is completed."""
        passed = self._passed.pop(call.tid, None)
        if passed is not None:
            self._put_back(call, *passed)
        if self.exit is None or call.tid in self._again:
            self._again.discard(call.tid)
            return
        stop = Stop(call)
        if self.match.fits(stop, left=True) and self._counts():
            changed = self.exit(stop)
            if changed:
                self._changed(call)
            if changed and isinstance(self.exit, Again):
                self._again.add(call.tid)

    def _changed(self, call: TracedCall) -> None:
        self.first = call.call_id if self.done == 0 else self.first
        self.done += 1
        call.injected = True

    def _counts(self) -> bool:
        self._matched += 1
        return self.match.nth in (None, self._matched)

    @staticmethod
    def _put_back(call: TracedCall, args_ptr: int, before: bytes) -> None:
        """Give the caller back the words that it passed."""
        stop = Stop(call)
        for index, word in enumerate(call.args):
            if args_ptr:
                stop.write(args_ptr + 4 * index, WORD.pack(word & LOW))
        if not args_ptr:
            for register in ARGUMENTS[: len(call.args)]:
                kept = ptrace.register_in(before, register)
                if stop.register(register) != kept:
                    stop.set_register(register, kept)


@dataclass(frozen=True)
class Several:
    """Makes calls wrong in several ways, one after another."""

    each: Sequence[Injection]

    def enter(self, call: TracedCall) -> None:
        """Change a call at its entry stop."""
        for injection in self.each:
            injection.enter(call)

    def leave(self, call: TracedCall) -> None:
        """Change a call at its exit stop: what was changed last is put back first."""
        for injection in reversed(self.each):
            injection.leave(call)
