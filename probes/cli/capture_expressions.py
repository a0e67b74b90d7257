"""Parses what `socketcall capture` is asked to show: -e EXPR, --errno, and names of calls, errors and signals."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from probes.abi.operations import NETWORK
from probes.abi.record import MAX_ERRNO, RESTART, errno_name
from probes.cli.capture_filters import CLASSES, GATES, OUTCOMES, ROUTES, Selection
from probes.errors import CommandError, nearest

_KNOWN = (*NETWORK, *CLASSES["desc"])
#: Calls whose name covers another form of theirs.
_FORMS = {
    "fcntl": ("fcntl", "fcntl64"), "select": ("_newselect",), "recvmmsg": ("recvmmsg", "recvmmsg_time64"),
    "sendfile": ("sendfile", "sendfile64"), "ppoll": ("ppoll", "ppoll_time64"),
    "pselect6": ("pselect6", "pselect6_time64"),
}  # fmt: skip
_QUALIFIERS = {"t": "trace", "s": "signal"}
_ERRNOS = (*(errno_name(-number) for number in errno.errorcode), *RESTART.values())


def selected(
    expressions: Sequence[str],
    *,
    successful: bool = False,
    failed: bool = False,
    errnos: str | None = None,
    fds: Sequence[int] = (),
    hosts: Sequence[str] = (),
    ports: Sequence[int] = (),
    paths: Sequence[str] = (),
) -> Selection:
    """Returns what the options of the command choose. Raises CommandError, which says where an expression is wrong."""
    selection = Selection(
        fds=frozenset(fds), hosts=frozenset(hosts), ports=frozenset(ports), paths=frozenset(paths),
        outcomes=frozenset(name for name, on in zip(OUTCOMES, (successful, failed), strict=False) if on) or None,
    )  # fmt: skip
    for expression in expressions:
        _apply(selection, expression)
    if errnos is not None:
        selection.errnos = frozenset(_items(_Part("--errno", errnos, 0), _errno, _ERRNOS))
    selection.wants_all = selection == Selection(signals=selection.signals)
    return selection


@dataclass(frozen=True)
class _Part:
    """Is the list of an expression: what the user wrote as a whole, and where in it the list begins."""

    option: str
    whole: str
    start: int

    def wrong(self, at: int, why: str) -> CommandError:
        """Returns the error for the character at an index of the whole."""
        return CommandError(f"capture: {self.option} {self.whole}: at character {at + 1}: {why}")


def _apply(selection: Selection, expression: str) -> None:
    word, equals, _ = expression.partition("=")
    qualifier = _QUALIFIERS.get(word, word) if equals else "trace"
    part = _Part("-e", expression, len(word) + 1 if equals else 0)
    if qualifier == "trace":
        names = _items(part, calls_named, (*NETWORK, ""))
        selection.operations, selection.unnamed = frozenset(names) - {""}, "" in names
    elif qualifier == "route":
        selection.routes = frozenset(_items(part, _one_of(ROUTES, "route"), ROUTES))
    elif qualifier == "gate":
        selection.gates = frozenset(_items(part, _one_of(GATES, "gate"), GATES))
    elif qualifier == "signal":
        from probes.report.capture import SIGNALS

        selection.signals = frozenset(_items(part, _signal, SIGNALS))
    elif qualifier == "status":
        selection.outcomes = frozenset(_items(part, _one_of(OUTCOMES, "status"), OUTCOMES))
    elif qualifier == "errno":
        selection.errnos = frozenset(_items(part, _errno, _ERRNOS))
    else:
        raise part.wrong(0, f"{word!r} can be trace, route, gate, signal, status or errno")


def _items(part: _Part, parse: Callable[[str], Iterable[str]], everything: Sequence[str]) -> set[str]:
    """Returns the names of a list; `!` before it means all others. Raises CommandError."""
    at = part.start
    negated = part.whole[at : at + 1] == "!"
    at += negated
    found: set[str] = set()
    for item in part.whole[at:].split(","):
        try:
            found |= set(everything) if item == "all" and everything else set() if item == "none" else set(parse(item))
        except ValueError as error:
            raise part.wrong(at, str(error)) from None
        at += len(item) + 1
    return set(everything) - found if negated else found


def calls_named(item: str) -> Iterable[str]:
    """Returns the calls of a name or a class. Raises ValueError."""
    names = _FORMS.get(item) or ((item,) if item in _KNOWN else CLASSES.get(item.removeprefix("%")))
    if names is None:
        raise ValueError(_unknown(item, "call or class of calls", (*_KNOWN, *(f"%{name}" for name in CLASSES))))
    return names


def _one_of(names: Sequence[str], what: str) -> Callable[[str], Iterable[str]]:
    def parse(item: str) -> Iterable[str]:
        if item not in names:
            raise ValueError(_unknown(item, what, names))
        return (item,)

    return parse


def _errno(item: str) -> Iterable[str]:
    return (item if item in RESTART.values() else errno_name(-error_number(item)),)


def error_number(item: str) -> int:
    """Returns the number of an error that is given by name or number. Raises ValueError."""
    number = int(item) if item.isdecimal() else getattr(errno, item, None) if item.startswith("E") else None
    if not isinstance(number, int) or not 0 < number <= MAX_ERRNO:
        raise ValueError(_unknown(item, "error", _ERRNOS))
    return number


def _signal(item: str) -> Iterable[str]:
    from probes.report.capture import signal_name

    return (signal_name(signal_number(item)),)


def signal_number(item: str) -> int:
    """Returns the number of a signal that is given by name, with SIG or without, or by number. Raises ValueError."""
    import signal

    names = signal.Signals.__members__
    number = int(item) if item.isdecimal() else names.get(item if item.startswith("SIG") else f"SIG{item}", 0)
    if not 0 < number < signal.NSIG:
        raise ValueError(_unknown(item, "signal", list(names)))
    return int(number)


def _unknown(item: str, what: str, names: Sequence[str]) -> str:
    article = "an" if what == "error" else "a"
    wrong = f"{item!r} is no {what}" if item else f"the name of {article} {what} is missing"
    return wrong + (nearest(item, names) or f"; one is {names[0]}")
