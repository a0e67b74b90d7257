"""Lists the system calls that the suite knows, one row each, and finds a row by name or number.

A row has the arguments and the number on each route. How many words a call takes, what is fetched at its entry and
exit (fetch.py) and how it is decoded (decode.py) follow from the arguments.

Source: include/uapi/linux/net.h (SYS_*), net/socket.c `nargs`, net/compat.c `nas`,
arch/x86/entry/syscalls/syscall_32.tbl and syscall_64.tbl, socketcall(2).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from probes.abi.arguments.addresses import address_in, address_out, offset, pair_out, value_result
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
from probes.abi.arguments.polling import (
    EPOLL_OPERATION,
    epoll_event,
    epoll_events,
    fd_set,
    pollfds,
    timespec,
    timespec64,
    timeval,
)

SOCKETCALL = 102
#: The only routes there are. Another system call (read, close, …) has just its number: its route is direct.
ROUTES = ("socketcall", "direct")


#: A fetch at a stop: the index of an argument, its name, the step that copies what it points to.
Fetch = tuple[int, str, Step]


@dataclass(frozen=True)
class Operation:
    """Describes one of the 20 operations of socketcall, or another system call of the documents.

    `direct` is the i386 number of the system call that does the same, `direct_name` its name and `fill` the words that
    it takes beyond the arguments: accept, send and recv have no number of their own, they are accept4 with flags 0,
    sendto and recvfrom without an address. `call` is the value of ebx that selects the operation of socketcall, 0 if
    the system call is none of the 20. `x86_64` is the number at the x86-64 entry, which captures of other programs
    meet.
    """

    name: str
    arguments: tuple[Argument, ...]
    direct: int
    call: int = 0
    x86_64: int | None = None
    direct_name: str = ""
    fill: tuple[int, ...] = ()
    words: int = field(init=False)
    entry: tuple[Fetch, ...] = field(init=False, repr=False)
    exit: tuple[Fetch, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Derive the number of words and the fetch steps from the arguments, last argument first.

        A value-result length comes after its pointer, and must be fetched before what it limits.
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
_MESSAGES_IN = (FD, messages_in("msgvec", count=2), size("vlen"), MESSAGE_FLAGS)
_MESSAGES_OUT = (FD, messages_out("msgvec", count=2), size("vlen"), MESSAGE_FLAGS)
_SOCKET = (FAMILY, TYPE, PROTOCOL)
_OPTION = (FD, LEVEL, OPTNAME)
_FCNTL = (FD, COMMAND, COMMAND_ARGUMENT)
_SETS = (integer("nfds"), *(fd_set(name, nfds=0) for name in ("readfds", "writefds", "exceptfds")))
_POLL = (pollfds("fds", count=1), size("nfds"))
_EPOLL = (integer("epfd"), epoll_events("events"), integer("maxevents"))
_MASK = (pointer("sigmask"), size("sigsetsize"))
_FILES = (integer("out_fd"), integer("in_fd"))
_OLD, _NEW = integer("oldfd"), integer("newfd")

_SOCKET_OPERATIONS = (
    Operation("socket", _SOCKET, direct=359, call=1, x86_64=41),
    Operation("bind", _ADDRESS_IN, direct=361, call=2, x86_64=49),
    Operation("connect", _ADDRESS_IN, direct=362, call=3, x86_64=42),
    Operation("listen", (FD, integer("backlog")), direct=363, call=4, x86_64=50),
    Operation("accept", _ADDRESS_OUT, direct=364, call=5, x86_64=43, direct_name="accept4", fill=(0,)),
    Operation("getsockname", _ADDRESS_OUT, direct=367, call=6, x86_64=51),
    Operation("getpeername", _ADDRESS_OUT, direct=368, call=7, x86_64=52),
    Operation("socketpair", (*_SOCKET, pair_out("sv")), direct=360, call=8, x86_64=53),
    Operation("send", _DATA_IN, direct=369, call=9, direct_name="sendto", fill=(0, 0)),
    Operation("recv", _DATA_OUT, direct=371, call=10, direct_name="recvfrom", fill=(0, 0)),
    Operation("sendto", (*_DATA_IN, address_in("addr", length=5), integer("addrlen")), direct=369, call=11, x86_64=44),
    Operation("recvfrom", (*_DATA_OUT, *_ADDRESS_OUT[1:]), direct=371, call=12, x86_64=45),
    Operation("shutdown", (FD, HOW), direct=373, call=13, x86_64=48),
    Operation("setsockopt", (*_OPTION, OPTVAL_IN, integer("optlen")), direct=366, call=14, x86_64=54),
    Operation("getsockopt", (*_OPTION, OPTVAL_OUT, value_result("optlen")), direct=365, call=15, x86_64=55),
    Operation("sendmsg", (FD, message_in("msg"), MESSAGE_FLAGS), direct=370, call=16, x86_64=46),
    Operation("recvmsg", (FD, message_out("msg"), MESSAGE_FLAGS), direct=372, call=17, x86_64=47),
    Operation("accept4", (*_ADDRESS_OUT, ACCEPT_FLAGS), direct=364, call=18, x86_64=288),
    Operation("recvmmsg", (*_MESSAGES_OUT, timespec("timeout")), direct=337, call=19, x86_64=299),
    Operation("sendmmsg", _MESSAGES_IN, direct=345, call=20, x86_64=307),
)
_OTHER_CALLS = (
    Operation("restart_syscall", (), direct=0),
    Operation("read", (FD, data_out("buf", length=2), size("count")), direct=3, x86_64=0),
    Operation("write", (FD, data_in("buf", length=2), size("count")), direct=4, x86_64=1),
    Operation("close", (FD,), direct=6, x86_64=3),
    Operation("getpid", (), direct=20),
    Operation("dup", (_OLD,), direct=41, x86_64=32),
    Operation("ioctl", (FD, REQUEST, REQUEST_ARGUMENT), direct=54, x86_64=16),
    Operation("fcntl", _FCNTL, direct=55, x86_64=72),
    Operation("select", (pointer("args"),), direct=82),
    Operation("dup2", (_OLD, _NEW), direct=63, x86_64=33),
    Operation("_newselect", (*_SETS, timeval("timeout")), direct=142, x86_64=23),
    Operation("readv", (FD, iovecs_out(count=2), size("iovcnt")), direct=145, x86_64=19),
    Operation("writev", (FD, iovecs_in(count=2), size("iovcnt")), direct=146, x86_64=20),
    Operation("poll", (*_POLL, integer("timeout")), direct=168, x86_64=7),
    Operation("sendfile", (*_FILES, offset("offset", 4), size("count")), direct=187),
    Operation("fstat64", (FD, pointer("statbuf")), direct=197),
    Operation("fcntl64", _FCNTL, direct=221),
    Operation("sendfile64", (*_FILES, offset("offset", 8), size("count")), direct=239, x86_64=40),
    Operation("epoll_ctl", (integer("epfd"), EPOLL_OPERATION, FD, epoll_event("event")), direct=255, x86_64=233),
    Operation("epoll_wait", (*_EPOLL, integer("timeout")), direct=256, x86_64=232),
    Operation("pselect6", (*_SETS, timespec("timeout"), pointer("sigmask")), direct=308, x86_64=270),
    Operation("ppoll", (*_POLL, timespec("timeout"), *_MASK), direct=309, x86_64=271),
    Operation("epoll_pwait", (*_EPOLL, integer("timeout"), *_MASK), direct=319, x86_64=281),
    Operation("epoll_create1", (FILE_FLAGS,), direct=329, x86_64=291),
    Operation("dup3", (_OLD, _NEW, FILE_FLAGS), direct=330, x86_64=292),
    Operation("pselect6_time64", (*_SETS, timespec64("timeout"), pointer("sigmask")), direct=413),
    Operation("ppoll_time64", (*_POLL, timespec64("timeout"), *_MASK), direct=414),
    Operation("recvmmsg_time64", (*_MESSAGES_OUT, timespec64("timeout")), direct=417),
    Operation("epoll_pwait2", (*_EPOLL, timespec64("timeout"), *_MASK), direct=441, x86_64=441),
)
#: The 20 operations of socketcall, and the other system calls of the documents, by name.
OPERATIONS = {operation.name: operation for operation in _SOCKET_OPERATIONS}
OTHER_CALLS = {operation.name: operation for operation in _OTHER_CALLS}
BY_NAME = OPERATIONS | OTHER_CALLS
#: Calls that return 0 if they succeed.
RETURN_ZERO = frozenset(
    [
        "bind",
        "connect",
        "listen",
        "getsockname",
        "getpeername",
        "socketpair",
        "shutdown",
        "setsockopt",
        "getsockopt",
        "close",
        "epoll_ctl",
    ]
)
#: The operations of socketcall by the value of ebx.
BY_CALL = {operation.call: operation for operation in _SOCKET_OPERATIONS}
#: All by their i386 number. It names the call that the kernel runs there: accept4, never accept.
BY_DIRECT = {operation.direct: operation for operation in BY_NAME.values() if not operation.fill}
BY_X86_64 = {operation.x86_64: operation for operation in BY_NAME.values() if operation.x86_64 is not None}
#: The calls of strace's class network: the 20 operations, and calls of their own number that are for sockets.
NETWORK = (*OPERATIONS, "recvmmsg_time64", "sendfile", "sendfile64")


def named(number: int, call: int) -> tuple[str, str]:
    """Return (operation, route) of an i386 system call: `number` from eax, `call` from ebx.

    The operation is "" if it is not known.
    """
    operation = BY_CALL.get(call) if number == SOCKETCALL else BY_DIRECT.get(number)
    return (operation.name if operation else "", "socketcall" if number == SOCKETCALL else "direct")
