"""Lists the system calls that the suite knows, one row each, and finds a row by name or number.

A row has the arguments and the number on each route. How many words a call takes, what is fetched at its entry and
exit (fetch.py) and how it is decoded (decode.py) follow from the arguments.

Source: include/uapi/linux/net.h (SYS_*), net/socket.c `nargs`, net/compat.c `nas`,
arch/x86/entry/syscalls/syscall_32.tbl and syscall_64.tbl, socketcall(2).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from probes.abi.arguments.addresses import address_in, address_out, pair_out, value_result
from probes.abi.arguments.argument import (
    ACCEPT_FLAGS,
    FAMILY,
    FD,
    FILE_FLAGS,
    HOW,
    MESSAGE_FLAGS,
    PROTOCOL,
    TYPE,
    Argument,
    Step,
    integer,
    pointer,
    size,
)
from probes.abi.arguments.buffers import data_in, data_out, iovecs_in, iovecs_out
from probes.abi.arguments.control_calls import COMMAND, COMMAND_ARGUMENT, REQUEST, REQUEST_ARGUMENT
from probes.abi.arguments.messages import message_in, message_out, messages_in, messages_out
from probes.abi.arguments.option_values import LEVEL, OPTNAME, OPTVAL_IN, OPTVAL_OUT
from probes.abi.arguments.polling import fd_set, pollfds, timespec, timeval

SOCKETCALL = 102
#: The only routes there are. Another system call (read, close, …) has just its number: its route is direct.
ROUTES = ("socketcall", "direct")


#: What is fetched at a stop: the index of an argument, its name, the step that fetches what it points to.
Fetch = tuple[int, str, Step]


@dataclass(frozen=True)
class Operation:
    """One of the 20 operations of socketcall, or another system call of the documents.

    `call` is the value of ebx that selects the operation of socketcall, 0 if the call is none of the 20. `direct` is
    the i386 number of the system call that does the same, `direct_name` its name and `fill` the words that it takes
    beyond the arguments: accept, send and recv have no number of their own, they are accept4 with flags 0, sendto and
    recvfrom without an address. `x86_64` is the number at the x86-64 entry, which captures of other programs meet.
    """

    name: str
    arguments: tuple[Argument, ...]
    call: int
    direct: int
    x86_64: int | None = None
    direct_name: str = ""
    fill: tuple[int, ...] = ()
    words: int = field(init=False)
    entry: tuple[Fetch, ...] = field(init=False, repr=False)
    exit: tuple[Fetch, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Derive what follows from the arguments.

        Lengths come first: a value-result length follows its pointer, and says at exit how much is there.
        """
        steps = [*enumerate(self.arguments)][::-1]
        entry = tuple((index, each.name, each.entry) for index, each in steps if each.entry)
        exit = tuple((index, each.name, each.exit) for index, each in steps if each.exit)
        derived = {"words": len(self.arguments), "entry": entry, "exit": exit}
        for name, value in (derived | {"direct_name": self.direct_name or self.name}).items():
            object.__setattr__(self, name, value)


_ADDRESS_IN = (FD, address_in("addr", length=2), integer("addrlen"))
_ADDRESS_OUT = (FD, address_out("addr", "addrlen"), value_result("addrlen"))
_DATA_IN = (FD, data_in("buf", length=2), size("len"), MESSAGE_FLAGS)
_DATA_OUT = (FD, data_out("buf", length=2), size("len"), MESSAGE_FLAGS)
_SOCKET = (FAMILY, TYPE, PROTOCOL)
_OPTION = (FD, LEVEL, OPTNAME)
_FCNTL = (FD, COMMAND, COMMAND_ARGUMENT)
_SETS = (integer("nfds"), *(fd_set(name, nfds=0) for name in ("readfds", "writefds", "exceptfds")))
_POLL = (pollfds("fds", count=1), size("nfds"))
_OLD, _NEW = integer("oldfd"), integer("newfd")

_SOCKET_OPERATIONS = (
    Operation("socket", _SOCKET, 1, 359, 41),
    Operation("bind", _ADDRESS_IN, 2, 361, 49),
    Operation("connect", _ADDRESS_IN, 3, 362, 42),
    Operation("listen", (FD, integer("backlog")), 4, 363, 50),
    Operation("accept", _ADDRESS_OUT, 5, 364, 43, "accept4", (0,)),
    Operation("getsockname", _ADDRESS_OUT, 6, 367, 51),
    Operation("getpeername", _ADDRESS_OUT, 7, 368, 52),
    Operation("socketpair", (*_SOCKET, pair_out("sv")), 8, 360, 53),
    Operation("send", _DATA_IN, 9, 369, None, "sendto", (0, 0)),
    Operation("recv", _DATA_OUT, 10, 371, None, "recvfrom", (0, 0)),
    Operation("sendto", (*_DATA_IN, address_in("addr", length=5), integer("addrlen")), 11, 369, 44),
    Operation("recvfrom", (*_DATA_OUT, address_out("addr", "addrlen"), value_result("addrlen")), 12, 371, 45),
    Operation("shutdown", (FD, HOW), 13, 373, 48),
    Operation("setsockopt", (*_OPTION, OPTVAL_IN, integer("optlen")), 14, 366, 54),
    Operation("getsockopt", (*_OPTION, OPTVAL_OUT, value_result("optlen")), 15, 365, 55),
    Operation("sendmsg", (FD, message_in("msg"), MESSAGE_FLAGS), 16, 370, 46),
    Operation("recvmsg", (FD, message_out("msg"), MESSAGE_FLAGS), 17, 372, 47),
    Operation("accept4", (*_ADDRESS_OUT, ACCEPT_FLAGS), 18, 364, 288),
    Operation(
        "recvmmsg",
        (FD, messages_out("msgvec", count=2), size("vlen"), MESSAGE_FLAGS, timespec("timeout")),
        19,
        337,
        299,
    ),
    Operation("sendmmsg", (FD, messages_in("msgvec", count=2), size("vlen"), MESSAGE_FLAGS), 20, 345, 307),
)
_OTHER_CALLS = (
    Operation("restart_syscall", (), 0, 0),
    Operation("read", (FD, data_out("buf", length=2), size("count")), 0, 3),
    Operation("write", (FD, data_in("buf", length=2), size("count")), 0, 4),
    Operation("close", (FD,), 0, 6),
    Operation("getpid", (), 0, 20),
    Operation("dup", (_OLD,), 0, 41),
    Operation("ioctl", (FD, REQUEST, REQUEST_ARGUMENT), 0, 54),
    Operation("fcntl", _FCNTL, 0, 55),
    Operation("dup2", (_OLD, _NEW), 0, 63),
    Operation("_newselect", (*_SETS, timeval("timeout")), 0, 142),
    Operation("readv", (FD, iovecs_out(count=2), size("iovcnt")), 0, 145),
    Operation("writev", (FD, iovecs_in(count=2), size("iovcnt")), 0, 146),
    Operation("poll", (*_POLL, integer("timeout")), 0, 168),
    Operation("fstat64", (FD, pointer("statbuf")), 0, 197),
    Operation("fcntl64", _FCNTL, 0, 221),
    Operation("pselect6", (*_SETS, timespec("timeout"), pointer("sigmask")), 0, 308),
    Operation("ppoll", (*_POLL, timespec("timeout"), pointer("sigmask"), size("sigsetsize")), 0, 309),
    Operation("dup3", (_OLD, _NEW, FILE_FLAGS), 0, 330),
)
#: The 20 operations of socketcall, and the other system calls of the documents, by name.
OPERATIONS = {operation.name: operation for operation in _SOCKET_OPERATIONS}
OTHER_CALLS = {operation.name: operation for operation in _OTHER_CALLS}
BY_NAME = OPERATIONS | OTHER_CALLS
#: The operations of socketcall by the value of ebx.
BY_CALL = {operation.call: operation for operation in _SOCKET_OPERATIONS}
#: All by their i386 number. It names the call that the kernel runs there: accept4, never accept.
BY_DIRECT = {operation.direct: operation for operation in BY_NAME.values() if not operation.fill}
BY_X86_64 = {operation.x86_64: operation for operation in _SOCKET_OPERATIONS if operation.x86_64 is not None}


def named(number: int, call: int) -> tuple[str, str]:
    """Return (operation, route) of an i386 system call: `number` from eax, `call` from ebx.

    The operation is "" if it is not known.
    """
    operation = BY_CALL.get(call) if number == SOCKETCALL else BY_DIRECT.get(number)
    return (operation.name if operation else "", "socketcall" if number == SOCKETCALL else "direct")
