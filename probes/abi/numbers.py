"""Numbers of the i386 socket calls, on both routes.

Source: include/uapi/linux/net.h (SYS_*), net/socket.c `nargs`, net/compat.c `nas`,
arch/x86/entry/syscalls/syscall_32.tbl, socketcall(2).
"""

from __future__ import annotations

from dataclasses import dataclass

SOCKETCALL = 102


@dataclass(frozen=True)
class Operation:
    """One of the 20 operations of socketcall.

    `call` is the value of ebx, `words` the number of 32-bit argument words the kernel copies, `direct` the number of
    the system call that does the same, `direct_name` that call's name and `fill` the words it takes beyond `words`
    (accept, send and recv have no direct number of their own: they are accept4 with flags 0, sendto and recvfrom
    without an address).
    """

    name: str
    call: int
    words: int
    direct: int
    args: tuple[str, ...]
    direct_name: str = ""
    fill: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if len(self.args) != self.words:
            raise ValueError(f"{self.name}: {self.words} words but arguments {self.args}")
        if not self.direct_name:
            object.__setattr__(self, "direct_name", self.name)


_TABLE = (
    Operation("socket", 1, 3, 359, ("family", "type", "protocol")),
    Operation("bind", 2, 3, 361, ("fd", "addr", "addrlen")),
    Operation("connect", 3, 3, 362, ("fd", "addr", "addrlen")),
    Operation("listen", 4, 2, 363, ("fd", "backlog")),
    Operation("accept", 5, 3, 364, ("fd", "addr", "addrlen"), "accept4", (0,)),
    Operation("getsockname", 6, 3, 367, ("fd", "addr", "addrlen")),
    Operation("getpeername", 7, 3, 368, ("fd", "addr", "addrlen")),
    Operation("socketpair", 8, 4, 360, ("family", "type", "protocol", "sv")),
    Operation("send", 9, 4, 369, ("fd", "buf", "len", "flags"), "sendto", (0, 0)),
    Operation("recv", 10, 4, 371, ("fd", "buf", "len", "flags"), "recvfrom", (0, 0)),
    Operation("sendto", 11, 6, 369, ("fd", "buf", "len", "flags", "addr", "addrlen")),
    Operation("recvfrom", 12, 6, 371, ("fd", "buf", "len", "flags", "addr", "addrlen")),
    Operation("shutdown", 13, 2, 373, ("fd", "how")),
    Operation("setsockopt", 14, 5, 366, ("fd", "level", "optname", "optval", "optlen")),
    Operation("getsockopt", 15, 5, 365, ("fd", "level", "optname", "optval", "optlen")),
    Operation("sendmsg", 16, 3, 370, ("fd", "msg", "flags")),
    Operation("recvmsg", 17, 3, 372, ("fd", "msg", "flags")),
    Operation("accept4", 18, 4, 364, ("fd", "addr", "addrlen", "flags")),
    Operation("recvmmsg", 19, 5, 337, ("fd", "msgvec", "vlen", "flags", "timeout")),
    Operation("sendmmsg", 20, 4, 345, ("fd", "msgvec", "vlen", "flags")),
)
OPERATIONS: dict[str, Operation] = {operation.name: operation for operation in _TABLE}
BY_CALL: dict[int, Operation] = {operation.call: operation for operation in _TABLE}
#: A direct number names the call that the kernel runs there: accept4, never accept.
BY_DIRECT: dict[int, Operation] = {op.direct: op for op in _TABLE if not op.fill}
#: The only routes there are. A plain call (read, close, …) has just its number: its route is direct.
ROUTES = ("socketcall", "direct")

#: Plain calls of the documents, by their i386 numbers.
PLAIN: dict[str, int] = {
    "restart_syscall": 0,
    "read": 3,
    "write": 4,
    "close": 6,
    "getpid": 20,
    "dup": 41,
    "ioctl": 54,
    "fcntl": 55,
    "dup2": 63,
    "_newselect": 142,
    "readv": 145,
    "writev": 146,
    "poll": 168,
    "fstat64": 197,
    "fcntl64": 221,
    "pselect6": 308,
    "ppoll": 309,
    "dup3": 330,
}
#: How many words of a plain call mean something; six if it is not here.
PLAIN_WORDS: dict[str, int] = {
    "restart_syscall": 0, "read": 3, "write": 3, "close": 1, "getpid": 0, "dup": 1, "ioctl": 3, "fcntl": 3, "dup2": 2,
    "_newselect": 5, "readv": 3, "writev": 3, "poll": 3, "fstat64": 2, "fcntl64": 3, "pselect6": 6, "ppoll": 5,
    "dup3": 3,
}  # fmt: skip
PLAIN_NAMES: dict[int, str] = {number: name for name, number in PLAIN.items()}

#: The x86-64 numbers of the same operations: captures of other programs meet them.
X86_64: dict[int, str] = {
    41: "socket", 42: "connect", 43: "accept", 44: "sendto", 45: "recvfrom", 46: "sendmsg", 47: "recvmsg",
    48: "shutdown", 49: "bind", 50: "listen", 51: "getsockname", 52: "getpeername", 53: "socketpair",
    54: "setsockopt", 55: "getsockopt", 288: "accept4", 299: "recvmmsg", 307: "sendmmsg",
}  # fmt: skip


def named(number: int, call: int) -> tuple[str, str]:
    """(operation, route) of an i386 system call: `number` from eax, `call` from ebx. ("", "direct") if not known."""
    if number == SOCKETCALL:
        operation = BY_CALL.get(call)
        return (operation.name if operation else "", "socketcall")
    operation = BY_DIRECT.get(number)
    return (operation.name if operation else PLAIN_NAMES.get(number, ""), "direct")
