"""Wrong effects: descriptors that are left, flagged or numbered otherwise than documented, and calls that do nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from probes.trace.actions import Action, Skip
from probes.trace.injection import Match
from probes.trace.stop import WORD, Place, Stop
from tools.mutants.mutant import Mutant, folder_of

_CLOSE, _DUP, _FCNTL = 6, 41, 55
_F_DUPFD, _F_GETFD, _F_SETFD, _F_GETFL, _F_SETFL = 0, 1, 2, 3, 4
_FD_CLOEXEC, _O_NONBLOCK = 1, 0o4000

#: Operations that return a descriptor, and the one that writes two.
_RETURNING, _WRITING = ("socket", "accept", "accept4"), "socketpair"
#: Operations whose success changes a socket.
_CHANGING = ("bind", "listen", "connect", "shutdown", "setsockopt", "close")


class Effect(NamedTuple):
    """Names what is wrong after a call, and for which outcomes."""

    name: str
    operator: str
    outcome: str
    action: Action


def _made(stop: Stop) -> list[int]:
    """Return the descriptors that a call made."""
    if stop.call.op != _WRITING:
        return [stop.result]
    address = Place("sv").address(stop)
    data = stop.read(address, 8) if address is not None else b""
    return [word for (word,) in WORD.iter_unpack(data)] if len(data) == 8 else []


def _changed(get: int, set: int, bits: int) -> Action:
    """Return an action that inverts flags of each descriptor that the call made."""

    def change(stop: Stop) -> bool:
        for descriptor in _made(stop):
            flags = stop.make(_FCNTL, descriptor, get)
            if flags is None or flags < 0 or stop.make(_FCNTL, descriptor, set, flags ^ bits) != 0:
                return False
        return True

    return change


def _leak(stop: Stop) -> bool:
    """Leave one descriptor more than documented."""
    left = stop.make(_DUP, 0)
    return left is not None and left >= 0


def _renumber(stop: Stop) -> bool:
    """Return a descriptor that is not the lowest free one."""
    lowest = stop.result
    higher = stop.make(_FCNTL, lowest, _F_DUPFD, lowest + 1)
    flags = stop.make(_FCNTL, lowest, _F_GETFD)
    if higher is None or higher < 0 or flags is None or flags < 0:
        return False
    stop.make(_FCNTL, higher, _F_SETFD, flags)
    stop.make(_CLOSE, lowest)
    stop.set_result(higher)
    return True


def _effects(operation: str) -> Iterator[Effect]:
    if operation in (*_RETURNING, _WRITING):
        yield Effect("FD_CLOEXEC", "inverted", "success", _changed(_F_GETFD, _F_SETFD, _FD_CLOEXEC))
        yield Effect("O_NONBLOCK", "inverted", "success", _changed(_F_GETFL, _F_SETFL, _O_NONBLOCK))
        yield Effect("descriptors", "one leaked", "success", _leak)
        yield Effect("descriptors", "one leaked", "error", _leak)
    if operation in _RETURNING:
        yield Effect("descriptor", "not the lowest", "success", _renumber)


def mutants() -> Iterator[Mutant]:
    """Yield the mutants of effects."""
    for operation in (*_RETURNING, _WRITING):
        for effect in _effects(operation):
            name = f"B {operation} {effect.outcome}: {effect.name} {effect.operator}"
            yield Mutant(
                "B", name, f"{operation} {effect.name}", f"effect {effect.operator}", operation,
                Match(operation, outcome=effect.outcome), exit=effect.action, folder=folder_of(operation),
            )  # fmt: skip
    for operation in _CHANGING:
        # Only calls that succeed on the genuine kernel: the others do nothing there too.
        yield Mutant(
            "B", f"B {operation} success: nothing done", f"{operation} effect", "effect lost", operation,
            Match(operation), entry=Skip(0), folder=folder_of(operation), succeeding=True,
        )  # fmt: skip
