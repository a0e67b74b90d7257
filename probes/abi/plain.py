"""How the arguments of the plain calls are told: those that numbers.PLAIN lists.

Source: read(2), write(2), close(2), dup(2), ioctl(2), fcntl(2), select(2), readv(2), poll(2), fstat(2), netdevice(7).
"""

from __future__ import annotations

from typing import Any

from probes.abi import layouts, names, options, values
from probes.abi.arguments import Call, Teller, data_in, data_out, integer, moment, pointer, size
from probes.abi.peek import IFREQS
from probes.abi.record import signed, unsigned
from probes.abi.sight import F_OWNER_EX
from probes.abi.sockaddr import printable

Argument = tuple[str, Teller]

F_SETFD, F_SETFL = names.value("F_SETFD"), names.value("F_SETFL")
#: fcntl commands whose argument is a pointer (fcntl(2)): locks, owners, hints.
POINTERS = {names.value(f"F_{name}") for name in (
    "GETLK", "SETLK", "SETLKW", "GETLK64", "SETLK64", "SETLKW64", "OFD_GETLK", "OFD_SETLK", "OFD_SETLKW", "CANCELLK",
    "SETOWN_EX", "GETOWN_EX", "GETOWNER_UIDS", "GET_RW_HINT", "SET_RW_HINT", "GET_FILE_RW_HINT", "SET_FILE_RW_HINT",
)}  # fmt: skip


def file_flags(call: Call, index: int) -> Any:
    return names.flags(names.FILE_FLAGS, call.at(index))


def command(call: Call, index: int) -> Any:
    return names.named(options.FCNTL, call.at(index))


def command_argument(call: Call, index: int) -> Any:
    which, argument = unsigned(call.at(1)), call.at(index)
    if which == F_SETFL:
        return names.file_flags(argument)
    if which == F_SETFD:
        return names.flags({1: "FD_CLOEXEC"}, argument)
    raw = call.after.get("arg", call.before.get("arg", b""))
    if len(raw) == F_OWNER_EX:
        return values.structure(layouts.FOwnerEx, raw)
    return values.pointer(argument) if which in POINTERS else signed(argument)


def request(call: Call, index: int) -> Any:
    number = unsigned(call.at(index))
    return options.IOCTLS.get(number) or hex(number)


def request_argument(call: Call, index: int) -> Any:
    """An int, an ifreq by its name, or bytes; what the call wrote wins."""
    raw = call.after.get("argp", call.before.get("argp"))
    if raw is None:
        return call.pointer(index)
    if len(raw) == 4:
        return values.integer(raw)
    if unsigned(call.at(1)) in IFREQS:
        name = raw[: layouts.IFNAMSIZ].split(b"\0")[0]
        return {"name": printable(name), "data": raw[layouts.IFNAMSIZ :].hex()}
    return values.buffer(raw)


def vector_in(call: Call, index: int) -> Any:
    return values.vector("", call.before, call.before, None, call.word) or call.pointer(index)


def vector_out(call: Call, index: int) -> Any:
    return values.vector("", call.before, call.after, call.ret or 0, call.word) or call.pointer(index)


def pollfds(call: Call, index: int) -> Any:
    return values.pollfds(call.before.get("fds", b""), call.after.get("fds", b"")) or call.pointer(index)


def fd_set(name: str) -> Teller:
    """A set before and after (select(2))."""

    def tell(call: Call, index: int) -> Any:
        asked, came = call.before.get(name), call.after.get(name)
        if asked is None:
            return call.pointer(index)
        told = {"in": values.fd_set(asked)}
        return told if came is None else told | {"out": values.fd_set(came)}

    return tell


_FD: Argument = ("fd", integer)
_SETS: tuple[Argument, ...] = (("nfds", integer), *((n, fd_set(n)) for n in ("readfds", "writefds", "exceptfds")))
_FCNTL: tuple[Argument, ...] = (_FD, ("cmd", command), ("arg", command_argument))
_POLL: tuple[Argument, ...] = (("fds", pollfds), ("nfds", size))

PLAIN_CALLS: dict[str, tuple[Argument, ...]] = {
    "restart_syscall": (),
    "read": (_FD, ("buf", data_out), ("count", size)),
    "write": (_FD, ("buf", data_in), ("count", size)),
    "close": (_FD,),
    "getpid": (),
    "dup": (("oldfd", integer),),
    "ioctl": (_FD, ("request", request), ("argp", request_argument)),
    "fcntl": _FCNTL,
    "dup2": (("oldfd", integer), ("newfd", integer)),
    "_newselect": (*_SETS, ("timeout", moment("usec"))),
    "readv": (_FD, ("iov", vector_out), ("iovcnt", size)),
    "writev": (_FD, ("iov", vector_in), ("iovcnt", size)),
    "poll": (*_POLL, ("timeout", integer)),
    "fstat64": (_FD, ("statbuf", pointer)),
    "fcntl64": _FCNTL,
    "pselect6": (*_SETS, ("timeout", moment("nsec")), ("sigmask", pointer)),
    "ppoll": (*_POLL, ("timeout", moment("nsec")), ("sigmask", pointer), ("sigsetsize", size)),
    "dup3": (("oldfd", integer), ("newfd", integer), ("flags", file_flags)),
}
