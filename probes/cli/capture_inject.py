"""Parses --inject of `socketcall capture`: which calls are made wrong, and how."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from probes.abi.operations import NETWORK
from probes.cli.capture_expressions import calls_named, error_number, signal_number
from probes.errors import CommandError
from probes.trace.actions import Action, Delay, Return, Send, Skip
from probes.trace.injection import Injection, Match

_MICRO = 1e-6
#: The longest delay: all traced threads wait for it.
_LONGEST = 3600 * 10**6


def injections(texts: Sequence[str]) -> list[Injection]:
    """Returns what each --inject asks for, as `connect,bind:error=EINTR:when=2` or `%recv:delay_exit=1000`.

    Raises CommandError, which says where a text is wrong.
    """
    return [_injection(text) for text in texts]


def _injection(text: str) -> Injection:
    calls, *parts = text.split(":")
    names = _names(text, calls)
    entry: Action | None = None
    exit: Action | None = None
    nth: int | None = None
    at = len(calls) + 1
    for part in parts:
        key, _, value = part.partition("=")
        if key == "when":
            nth = _positive(text, at + len(key) + 1, value)
        elif key in _ENTRIES:
            _only_one(text, at, entry)
            entry = _ENTRIES[key](text, at + len(key) + 1, value)
        elif key in _EXITS:
            _only_one(text, at, exit)
            exit = _EXITS[key](text, at + len(key) + 1, value)
        else:
            raise _wrong(text, at, f"{key!r} can be {', '.join((*_ENTRIES, *_EXITS, 'when'))}")
        at += len(part) + 1
    if entry is None and exit is None:
        raise _wrong(text, len(text), f"what to do is missing: one of {', '.join((*_ENTRIES, *_EXITS))}")
    if entry is not None and exit is not None and nth is not None:
        raise _wrong(text, len(text), "when= goes with one thing to do")
    return Injection(Match(where=lambda stop: stop.call.op in names, nth=nth), entry=entry, exit=exit)


def _names(text: str, calls: str) -> frozenset[str]:
    found: set[str] = set()
    at = 0
    for item in calls.split(","):
        try:
            found |= set(calls_named(item))
        except ValueError as error:
            raise _wrong(text, at, str(error)) from None
        at += len(item) + 1
    # (A call on a descriptor that is no socket's may be one that the program cannot do without.)
    if others := sorted(found - set(NETWORK)):
        raise _wrong(text, 0, f"{others[0]} is no call of %network")
    return frozenset(found)


def _error(text: str, at: int, value: str) -> Action:
    return Skip(-_parsed(text, at, value, error_number))


def _retval(text: str, at: int, value: str) -> Action:
    return Skip(_number(text, at, value))


def _result(text: str, at: int, value: str) -> Action:
    return Return(_number(text, at, value))


def _delay(text: str, at: int, value: str) -> Action:
    micro = _positive(text, at, value)
    if micro > _LONGEST:
        raise _wrong(text, at, f"{value!r} is more than an hour")
    return Delay(micro * _MICRO)


def _signal(text: str, at: int, value: str) -> Action:
    return Send(_parsed(text, at, value, signal_number))


def _parsed(text: str, at: int, value: str, parse: Callable[[str], int]) -> int:
    try:
        return parse(value)
    except ValueError as error:
        raise _wrong(text, at, str(error)) from None


#: What is done at the entry, and what at the exit. error= and retval= make no call, as in strace; result= makes it.
_ENTRIES = {"error": _error, "retval": _retval, "delay_enter": _delay}
_EXITS = {"result": _result, "delay_exit": _delay, "signal": _signal}


def _number(text: str, at: int, value: str) -> int:
    try:
        return int(value, 0)
    except ValueError:
        raise _wrong(text, at, f"{value!r} is no number") from None


def _positive(text: str, at: int, value: str) -> int:
    number = _number(text, at, value)
    if number < 1:
        raise _wrong(text, at, f"{value!r} is not at least 1")
    return number


def _only_one(text: str, at: int, before: Action | None) -> None:
    if before is not None:
        raise _wrong(text, at, "only one thing is done at an entry, and one at an exit")


def _wrong(text: str, at: int, why: str) -> CommandError:
    return CommandError(f"capture: --inject {text}: at character {at + 1}: {why}")
