"""Population B: what can be wrong according to the ABI alone, whatever the tests judge.

Two tables: operation by documented error, from the facts of the manual pages; operation by field (argument words that are
read, memory and lengths that are written) by operator, from the operations' arguments and the layouts below.
"""

from __future__ import annotations

import errno
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from probes.abi.operations import BY_NAME, OPERATIONS
from probes.trace.actions import Action, Add, Flip, Put, Word
from probes.trace.injection import Match
from probes.trace.stop import Behind, Place
from tools.coverage import FACTS
from tools.mutants.mutant import Mutant, shown, wrong_results

#: Operations whose rate has to hold; that of the others is printed.
HELD = ("socket", "bind", "socketpair", "close", "multiplexer")
_ZEROS = bytes(4)


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
        Field("behind the length", "written", Flip(Behind(address, length), 1)),
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
        Field("behind the pair", "written", Flip(Place("sv", (8,)), 4)),
    ],
    "getsockopt": [
        Field("value", "value", Flip(Place("optval"), 1)),
        Field("value", "high byte", Flip(Place("optval", (3,)), 1)),
        Field("length", "too much", Add(Place("optlen"), 1)),
        Field("length", "too little", Add(Place("optlen"), -1)),
        Field("length", "zero", Put(Place("optlen"), _ZEROS)),
        Field("behind the length", "written", Flip(Behind("optval", "optlen"), 1)),
    ],
    "recvmsg": _message("msg"),
    "recvmmsg": [*_message("msgvec"), Field("msg_len", "too much", Add(Place("msgvec", (28,)), 1))],
    "sendmmsg": [Field("msg_len", "too much", Add(Place("msgvec", (28,)), 1))],
    "poll": [Field("revents", "value", Flip(Place("fds", (6,)), 1, 0x05))],
}


def population() -> list[Mutant]:
    """Return all of it, in a stable order."""
    return [*_errors(FACTS), *_words(), *_fields(), *_results()]


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
                for error in re.findall(r"\bE[A-Z0-9]+\b", fact.partition(":")[0]):
                    yield from _error(page, fact, -getattr(errno, error), tuple(behaviours))


def _error(operation: str, fact: str, result: int, behaviours: tuple[str, ...]) -> Iterator[Mutant]:
    for operator, action in wrong_results(result):
        name = f"B {operation}(2) {fact!r}: {operator}"
        match = Match(operation, outcome=result)
        yield Mutant(
            "B", name, f"{operation}(2) {fact}", operator, operation, match, None, action(), behaviours, operation
        )


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
                        Word(index, change), None, (), _folder(operation.name),
                    )  # fmt: skip


def _fields() -> Iterator[Mutant]:
    for operation, fields in FIELDS.items():
        for field in fields:
            name = f"B {operation}: {field.name} {field.operator}"
            match = Match(operation, outcome="success")
            yield Mutant(
                "B", name, f"{operation} {field.name}", f"field {field.operator}", operation, match, None, field.action,
                (), _folder(operation),
            )  # fmt: skip


def _results() -> Iterator[Mutant]:
    for operation in [*OPERATIONS, "close"]:
        for operator, action in wrong_results("success"):
            name = f"B {operation} {shown('success')}: {operator}"
            match = Match(operation, outcome="success")
            yield Mutant(
                "B", name, f"{operation} result", operator, operation, match, None, action(), (), _folder(operation)
            )


def _folder(operation: str) -> str:
    return operation if operation in HELD else "other operations"
