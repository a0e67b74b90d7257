"""Population B: what can be wrong according to the ABI alone, whatever the tests judge.

Two tables: operation by documented error, from the facts of the manual pages; operation by field (argument words that are
read, memory and lengths that are written) by operator, from the operations' arguments and the layouts below.
"""

from __future__ import annotations

import errno
import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from probes.abi.operations import BY_NAME, OPERATIONS
from probes.trace.actions import Action, Add, Exceed, Flip, Put, Word
from probes.trace.injection import Match
from probes.trace.stop import Behind, Place, Stop
from tools.coverage import FACTS
from tools.mutants import effects, frames, multiplexer, named
from tools.mutants.kinds import MAKERS, kind_of
from tools.mutants.mutant import Mutant, folder_of, shown, wrong_results
from tools.mutants.observed import Seen

_ZEROS = bytes(4)
#: The operations of a manual page that has several.
_OF_PAGE = {
    "send": ("send", "sendto", "sendmsg"),
    "recv": ("recv", "recvfrom", "recvmsg"),
    "accept": ("accept", "accept4"),
    "readv": ("readv", "writev"),
    "poll": ("poll", "ppoll", "ppoll_time64"),
    "select": ("select", "_newselect", "pselect6", "pselect6_time64"),
    "epoll_wait": ("epoll_wait", "epoll_pwait", "epoll_pwait2"),
}
#: What a tracer sees in place of EINTR when a call is interrupted (include/linux/errno.h): ERESTARTSYS, ERESTARTNOINTR,
#: ERESTARTNOHAND, ERESTART_RESTARTBLOCK. A call that fails otherwise there is not restarted, and its error is the caller's.
_INTERRUPTED = (-512, -513, -514, -516)


@dataclass(frozen=True)
class Field:
    """Names memory that an operation writes, and how it can be wrong there."""

    name: str
    operator: str
    action: Action


def _name(address: str, length: str) -> list[Field]:
    """Return the fields of a name with a value-result length, at their offsets in struct sockaddr_in."""
    return [
        Field("family", "value", Flip(Place(address), 2)),
        Field("port or path", "value", Flip(Place(address, (2,)), 1)),
        Field("address or path", "value", Flip(Place(address, (4,)), 1)),
        Field("length", "too much", Add(Place(length), 1)),
        Field("length", "too little", Add(Place(length), -1)),
        Field("length", "zero", Put(Place(length), _ZEROS)),
        Field("behind the length", "written", Exceed(Behind(address, length))),
    ]


def _message(argument: str) -> list[Field]:
    """Return the fields of struct msghdr at their offsets in the i386 layout, and of the first control message."""
    return [
        Field("data", "value", Flip(Place(argument, (8, 0, 0)), 1)),
        Field("name", "value", Flip(Place(argument, (0, 0)), 2)),
        Field("msg_namelen", "too much", Add(Place(argument, (4,)), 1)),
        Field("msg_namelen", "zero", Put(Place(argument, (4,)), _ZEROS)),
        Field("msg_controllen", "lost", Put(Place(argument, (20,)), _ZEROS)),
        Field("msg_controllen", "too much", Add(Place(argument, (20,)), 4)),
        Field("msg_flags", "other", Flip(Place(argument, (24,)), 1, 0x28)),
        Field("cmsg_len", "laid out for 64 bits", Add(Place(argument, (16, 0)), 4)),
        Field("cmsg_level", "value", Flip(Place(argument, (16, 4)), 1)),
        Field("cmsg_type", "value", Flip(Place(argument, (16, 8)), 1)),
        Field("control data", "value", Flip(Place(argument, (16, 12)), 1)),
    ]


#: What each operation writes.
FIELDS: dict[str, list[Field]] = {
    "accept": _name("addr", "addrlen"),
    "accept4": _name("addr", "addrlen"),
    "getsockname": _name("addr", "addrlen"),
    "getpeername": _name("addr", "addrlen"),
    "recvfrom": [Field("data", "value", Flip(Place("buf"), 1)), *_name("addr", "addrlen")],
    "recv": [Field("data", "value", Flip(Place("buf"), 1))],
    "read": [Field("data", "value", Flip(Place("buf"), 1))],
    "socketpair": [
        Field("first descriptor", "value", Add(Place("sv"), 1)),
        Field("second descriptor", "value", Add(Place("sv", (4,)), 1)),
        Field("behind the pair", "written", Exceed(Place("sv", (8,)), 4)),
    ],
    "getsockopt": [
        Field("value", "value", Flip(Place("optval"), 1)),
        Field("value", "high byte", Flip(Place("optval", (3,)), 1)),
        Field("length", "too much", Add(Place("optlen"), 1)),
        Field("length", "too little", Add(Place("optlen"), -1)),
        Field("length", "zero", Put(Place("optlen"), _ZEROS)),
        Field("behind the length", "written", Exceed(Behind("optval", "optlen"))),
    ],
    "recvmsg": _message("msg"),
    "recvmmsg": [*_message("msgvec"), Field("msg_len", "too much", Add(Place("msgvec", (28,)), 1))],
    "sendmmsg": [Field("msg_len", "too much", Add(Place("msgvec", (28,)), 1))],
    "poll": [Field("revents", "value", Flip(Place("fds", (6,)), 1, 0x05))],
}


def population(seen: Iterable[Seen] = ()) -> list[Mutant]:
    """Return all of it, in a stable order.

    What an operation writes, returns and does is wrong for any socket, and once more for each kind and state of a socket
    on which it was `seen`.
    """
    effects_of_any = [*_fields(), *_results(), *effects.mutants()]
    calls = dict.fromkeys(seen)
    of_kinds = [
        mutant.of_kind(kind, kind_of)
        for mutant in effects_of_any
        # A call that failed to make a socket: what it was asked for is no state of one.
        if not (mutant.match.outcome == "error" and mutant.operation in MAKERS)
        for kind in dict.fromkeys(mutant.concerned(call.before, call.after) for call in calls if fits(mutant, call))
        if kind
    ]
    others = [*_failures(), *multiplexer.mutants(), *frames.mutants(), *named.mutants()]
    return [*_errors(FACTS), *_words(), *effects_of_any, *of_kinds, *others]


def fits(mutant: Mutant, call: Seen) -> bool:
    """Return True if a mutant makes such a call wrong."""
    if mutant.operation not in (None, call.operation):
        return False
    if mutant.kind and mutant.kind != mutant.concerned(call.before, call.after):
        return False
    wanted = "success" if mutant.succeeding else mutant.match.outcome
    if wanted == "error":
        return call.result != "success"
    return wanted in (None, call.result)


def _errors(facts: Path) -> Iterator[Mutant]:
    """Yield the documented errors of the operations that have a page of their own."""
    for path in sorted(facts.glob("*.2.toml")):
        page = path.name.split(".")[0]
        if page not in BY_NAME:
            continue
        for section, table in tomllib.loads(path.read_text()).items():
            for fact, behaviours in table.items():
                if section != "ERRORS" or isinstance(behaviours, str) or not behaviours:
                    continue
                # EAGAIN and EWOULDBLOCK are one number.
                names = re.findall(r"\bE[A-Z0-9]+\b", fact.partition(":")[0])
                numbers = dict.fromkeys(getattr(errno, name) for name in names)
                for number in numbers:
                    which = f" by {errno.errorcode[number]}" if len(numbers) > 1 else ""
                    yield from _error(page, f"{fact!r}{which}", -number, tuple(behaviours))


def _error(page: str, fact: str, result: int, behaviours: tuple[str, ...]) -> Iterator[Mutant]:
    operations = _OF_PAGE.get(page, (page,))
    # With several operations those of the page are chosen by `where`.
    operation = page if len(operations) == 1 else None

    def fails(stop: Stop) -> bool:
        came = stop.result
        return stop.call.op in operations and (came == result or (result == -errno.EINTR and came in _INTERRUPTED))

    for operator, action in wrong_results(result):
        name = f"B {page}(2) {fact}: {operator}"
        match = Match(operation, outcome="error", where=fails)
        yield Mutant("B", name, f"{page}(2) {fact}", operator, operation, match, None, action(), behaviours, page)


def _words() -> Iterator[Mutant]:
    """Yield the argument words: not read, read wrong, truncated, over each route."""
    changes = {
        "not read": lambda word: 0,
        "off by one": lambda word: word + 1,
        "truncated to 16 bits": lambda word: word & 0xFFFF,
    }
    for operation in OPERATIONS.values():
        for index, argument in enumerate(operation.arguments):
            for route in ("socketcall", "direct") if not operation.fill else ("socketcall",):
                for operator, change in changes.items():
                    name = f"B {operation.name} over {route}: {argument.name} {operator}"
                    match = Match(operation.name, route)
                    yield Mutant(
                        "B", name, f"{operation.name} word {index}", f"word {operator}", operation.name, match,
                        Word(index, change), None, (), folder_of(operation.name),
                    )  # fmt: skip


def _fields() -> Iterator[Mutant]:
    for operation, fields in FIELDS.items():
        for field in fields:
            name = f"B {operation}: {field.name} {field.operator}"
            match = Match(operation, outcome="success")
            yield Mutant(
                "B", name, f"{operation} {field.name}", f"field {field.operator}", operation, match, None, field.action,
                (), folder_of(operation),
            )  # fmt: skip


def _failures() -> Iterator[Mutant]:
    """Yield calls that fail and write what they write when they succeed: the first field of each operation."""
    for operation, (field, *_) in FIELDS.items():
        # The kernel writes the numbers of the descriptors first, and leaves them where socketpair fails.
        if operation not in OPERATIONS or operation == "socketpair":
            continue
        yield Mutant(
            "B", f"B {operation} error: {field.name} written", f"{operation} {field.name}", "field written by a failure",
            operation, Match(operation, outcome="error"), None, field.action, (), folder_of(operation),
        )  # fmt: skip


def _results() -> Iterator[Mutant]:
    for operation in [*OPERATIONS, "close"]:
        for operator, action in wrong_results("success"):
            name = f"B {operation} {shown('success')}: {operator}"
            match = Match(operation, outcome="success")
            yield Mutant(
                "B", name, f"{operation} result", operator, operation, match, None, action(), (), folder_of(operation)
            )
