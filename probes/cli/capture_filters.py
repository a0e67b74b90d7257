"""Chooses the calls that `socketcall capture` shows: by operation, route, gate, result, descriptor and address."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from probes.abi.operations import BY_NAME, NETWORK
from probes.abi.record import Decoded, errno_name, signed
from probes.abi.strace_notation import FD_NAMES
from probes.trace.traced_call import TracedCall, numbers_of

if TYPE_CHECKING:
    from probes.trace.descriptors import Descriptors

_SENDING, _RECEIVING = ("send", "sendto", "sendmsg", "sendmmsg"), ("recv", "recvfrom", "recvmsg", "recvmmsg")
#: Classes of calls. As in strace they need a percent sign only where a call has the same name.
CLASSES: dict[str, tuple[str, ...]] = {
    "network": NETWORK,
    "setup": ("socket", "socketpair", "bind", "connect", "listen", "accept", "accept4", "shutdown"),
    "send": _SENDING,
    "recv": _RECEIVING,
    "data": _SENDING + _RECEIVING,
    "name": ("getsockname", "getpeername"),
    "option": ("getsockopt", "setsockopt"),
}
CLASSES["net"] = CLASSES["network"]
CLASSES["poll"] = ("poll", "ppoll", "ppoll_time64", "_newselect", "pselect6", "pselect6_time64", "epoll_create1",
                   "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2")  # fmt: skip
#: Calls on descriptors of any kind: shown where one is a socket's.
CLASSES["desc"] = ("read", "write", "readv", "writev", "close", "dup", "dup2", "dup3", "fcntl", "fcntl64", "ioctl",
                   *CLASSES["poll"])  # fmt: skip
_DESCRIPTOR_CALLS = frozenset(CLASSES["desc"])
ROUTES, GATES = ("socketcall", "direct"), ("int80", "vdso", "syscall")
OUTCOMES = ("successful", "failed", "unfinished")


@dataclass
class Selection:
    """Says which calls and signals are shown. None chooses all; of descriptors and addresses, the empty set does."""

    operations: frozenset[str] = frozenset(NETWORK)
    #: Calls whose operation has no name: other operation numbers of socketcall.
    unnamed: bool = True
    routes: frozenset[str] = frozenset(ROUTES)
    gates: frozenset[str] | None = None
    signals: frozenset[str] | None = None
    outcomes: frozenset[str] | None = None
    #: Names of errors of which a call must have one.
    errnos: frozenset[str] | None = None
    fds: frozenset[int] = frozenset()
    hosts: frozenset[str] = frozenset()
    ports: frozenset[int] = frozenset()
    paths: frozenset[str] = frozenset()
    #: True if neither `wants` nor `wants_result` refuses a call.
    wants_all: bool = False
    _sockets: Descriptors | None = field(default=None, compare=False)
    #: Descriptors, by process, at which a chosen address was seen.
    _found: dict[int, set[int]] = field(default_factory=dict)

    def stops(self) -> tuple[dict[int, set[int]], set[int] | None]:
        """Returns at which calls the tracer stops: numbers by architecture, and operation numbers of socketcall."""
        if self._follows_addresses:
            return numbers_of({*NETWORK, *self.operations}, socketcall=True, direct=True), None
        numbers = numbers_of(self.operations, "socketcall" in self.routes, "direct" in self.routes)
        return numbers, None if self.unnamed else {BY_NAME[name].call for name in self.operations} - {0}

    @property
    def judges_results(self) -> bool:
        """Returns True if a call is chosen by what is known at its exit only."""
        return self.outcomes is not None or self.errnos is not None or self._follows_addresses

    def wants(self, call: TracedCall) -> bool:
        """Returns True if a call is to be recorded, as far as its entry says that."""
        call.shown = self._fits(call)
        return call.shown or self._follows_addresses

    @property
    def _follows_addresses(self) -> bool:
        """Returns True if calls are chosen by an address: a descriptor is known by the calls that gave it its address."""
        return bool(self.hosts or self.ports or self.paths)

    def _fits(self, call: TracedCall) -> bool:
        if not (call.op in self.operations if call.op else self.unnamed):
            return False
        if call.route not in self.routes or (self.gates is not None and call.gate not in self.gates):
            return False
        if self.fds and self.fds.isdisjoint(descriptors_of(call)):
            return False
        # A call that is not for sockets alone is shown where it is on one.
        return call.op not in _DESCRIPTOR_CALLS or self._is_on_socket(call)

    def _is_on_socket(self, call: TracedCall) -> bool:
        if self._sockets is None:
            from probes.trace.descriptors import Descriptors

            self._sockets = Descriptors(plain=True)
        sockets = self._sockets
        return call.op in (*_NO_FD, *_EPOLL_WAITS) or any(sockets.describe(call.pid, fd) for fd in descriptors_of(call))

    def wants_result(self, call: TracedCall) -> bool:
        """Returns True if a call that `wants` chose is shown, now that it is over."""
        if self.wants_all:
            return True
        if self._follows_addresses and not (self._at_address(call) and call.shown):
            return False
        if self.outcomes is not None and _outcome(call.ret) not in self.outcomes:
            return False
        return self.errnos is None or errno_name(call.ret) in self.errnos

    def forget(self, pid: int) -> None:
        """Forgets a process that has ended: another may get its number."""
        self._found.pop(pid, None)
        if self._sockets is not None:
            self._sockets.forget(pid)

    def wants_signal(self, name: str) -> bool:
        """Returns True if a signal is shown."""
        return self.signals is None or name in self.signals

    def _at_address(self, call: TracedCall) -> bool:
        """Returns True for a call that has a chosen address, and for later calls on its descriptor."""
        found = self._found.setdefault(call.pid, set())
        descriptor = None if call.op in _NO_FD or not call.args else signed(call.args[0])
        found.difference_update(made_by(call))
        if any(map(self._is_chosen, addresses_in(call.decoded()))):
            made = call.ret if call.op in ("accept", "accept4") else descriptor
            if made is not None:
                found.add(made)
            return True
        return descriptor in found

    def _is_chosen(self, address: dict[str, Decoded]) -> bool:
        path = address.get("path", address.get("abstract"))
        return (
            (not self.hosts or address.get("host") in self.hosts)
            and (not self.ports or address.get("port") in self.ports)
            and (not self.paths or path in self.paths)
        )


_NO_FD = ("socket", "socketpair", "epoll_create1")
#: Calls on the descriptor of an epoll, which may wait for sockets.
_EPOLL_WAITS = ("epoll_wait", "epoll_pwait", "epoll_pwait2")
#: Calls that return a descriptor.
MAKE_FD = ("socket", "accept", "accept4", "dup", "dup2", "dup3")


def descriptors_of(call: TracedCall) -> set[int]:
    """Returns the descriptors among the arguments of a call."""
    if call.op in _NO_FD or not call.args:
        return set()
    if call.op in CLASSES["poll"] and not call.op.startswith("epoll"):
        decoded = call.decoded()
        fds = decoded.get("fds")
        found = {each["fd"] for each in fds} if isinstance(fds, list) else set()
        sets = (decoded.get(name) for name in ("readfds", "writefds", "exceptfds"))
        return found.union(*(each["in"] for each in sets if isinstance(each, dict)))
    names = [argument.name for argument in call.operation.arguments] if call.operation else []
    return {signed(word) for name, word in zip(names, call.args, strict=False) if name in FD_NAMES}


def made_by(call: TracedCall) -> list[int]:
    """Returns the descriptors that a call made."""
    if call.ret is None or call.ret < 0:
        return []
    if call.op == "socketpair":
        pair = call.decoded().get("sv")
        return pair if isinstance(pair, list) else []
    return [call.ret] if call.op in MAKE_FD else []


def _outcome(ret: int | None) -> str:
    if ret is None:
        return "unfinished"
    return "failed" if errno_name(ret) else "successful"


def addresses_in(decoded: Decoded) -> Iterable[dict[str, Decoded]]:
    """Yields the socket addresses in decoded arguments, at any depth."""
    if isinstance(decoded, dict):
        if isinstance(decoded.get("family"), str) and len(decoded) > 1 and "type" not in decoded:
            yield decoded
        for value in decoded.values():
            if isinstance(value, dict | list):
                yield from addresses_in(value)
    elif isinstance(decoded, list):
        for value in decoded:
            yield from addresses_in(value)
