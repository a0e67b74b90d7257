"""What of the memory a call points to is looked at: `look` of decode.py.

Source: the prototypes of socket(2), bind(2), …, poll(2), ioctl(2), fcntl(2); net/socket.c for what is read and written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from probes.abi.names import value
from probes.abi.options import IOCTLS
from probes.abi.record import signed
from probes.abi.sight import (
    ADDRESS,
    DATA,
    F_OWNER_EX,
    HEADER,
    IFCONF,
    IFREQ,
    INT,
    MMSGHDR,
    POLLFDS,
    SOCKET_PAIR,
    TIME,
    Reader,
    Sight,
)


def _numbers(*wanted: str) -> frozenset[int]:
    return frozenset(value(name) for name in wanted)


#: ioctl: requests whose argument points to an int the call reads, and to one it writes (tcp(7), udp(7), socket(7)).
INT_IN: Final = _numbers("FIONBIO", "FIOASYNC", "FIOSETOWN", "SIOCSPGRP")
INT_OUT: Final = _numbers("FIONREAD", "SIOCOUTQ", "SIOCOUTQNSD", "FIOGETOWN", "SIOCGPGRP", "SIOCATMARK")
STAMPS: Final = _numbers("SIOCGSTAMP_OLD", "SIOCGSTAMPNS_OLD")
NEW_STAMPS: Final = _numbers("SIOCGSTAMP_NEW", "SIOCGSTAMPNS_NEW")  # 16 bytes, as their number says
SIOCGIFCONF: Final = value("SIOCGIFCONF")
#: Those that take a struct ifreq: netdevice(7), include/uapi/linux/sockios.h "Socket configuration controls".
IFREQS: Final = frozenset(
    {number for number in IOCTLS if value("SIOCGIFNAME") <= number <= value("SIOCSIFHWBROADCAST")}
    | _numbers("SIOCGIFTXQLEN", "SIOCSIFTXQLEN", "SIOCGIFMAP", "SIOCSIFMAP")
) - {SIOCGIFCONF}
F_SETOWN_EX: Final = value("F_SETOWN_EX")
F_GETOWN_EX: Final = value("F_GETOWN_EX")

#: How to look at one thing: the sight, the name of the blob, the index of the pointer, the index of its size.
Step = tuple[Callable[[Sight, str, int, int], None], str, int, int]


def address(sight: Sight, name: str, at: int, size: int) -> None:
    sight.take(name, sight.words[at], min(signed(sight.words[size]), ADDRESS))


def option(sight: Sight, name: str, at: int, size: int) -> None:
    sight.take(name, sight.words[at], min(signed(sight.words[size]), DATA))


def data(sight: Sight, name: str, at: int, size: int) -> None:
    sight.take(name, sight.words[at], min(sight.words[size], DATA))


def fixed(sight: Sight, name: str, at: int, size: int) -> None:
    """Something of `size` bytes."""
    sight.take(name, sight.words[at], size)


def address_out(sight: Sight, name: str, at: int, size: int) -> None:
    """An address the call wrote, and its length, which may be more than the caller had room for."""
    length = sight.take("addrlen", sight.words[size], INT)
    if len(length) == INT:
        sight.take(name, sight.words[at], min(_int(length), ADDRESS))


def option_out(sight: Sight, name: str, at: int, size: int) -> None:
    length = sight.take("optlen", sight.words[size], INT)
    if len(length) == INT:
        sight.take(name, sight.words[at], min(_int(length), DATA))


def received(sight: Sight, name: str, at: int, size: int) -> None:
    """Data the call wrote. The result may exceed the buffer (MSG_TRUNC, recv(2))."""
    sight.take(name, sight.words[at], min(sight.ret, sight.words[size], DATA))


def time(sight: Sight, name: str, at: int, _size: int) -> None:
    sight.take(name, sight.words[at], TIME[sight.word].size)


def pollfds(sight: Sight, name: str, at: int, size: int) -> None:
    sight.take(name, sight.words[at], min(sight.words[size], POLLFDS) * 8)


def fd_set(sight: Sight, name: str, at: int, size: int) -> None:
    """The longs of an fd_set that `nfds` reaches (select(2))."""
    longs = (max(signed(sight.words[size]), 0) + sight.word - 1) // sight.word
    sight.take(name, sight.words[at], min(longs * sight.word // 8, DATA))


def iovecs(sight: Sight, name: str, at: int, size: int) -> None:
    sight.iovecs("", sight.words[at], sight.words[size], None)


def iovecs_room(sight: Sight, name: str, at: int, size: int) -> None:
    sight.iovecs("", sight.words[at], sight.words[size], 0)


def iovecs_out(sight: Sight, name: str, at: int, size: int) -> None:
    sight.iovecs("", sight.words[at], sight.words[size], sight.ret)


def message(sight: Sight, name: str, at: int, _size: int) -> None:
    """A message to send: everything."""
    sight.message(name, sight.take(name, sight.words[at], HEADER[sight.word].size), None)


def message_room(sight: Sight, name: str, at: int, _size: int) -> None:
    """Where to receive: the header and the buffers, not what is in them."""
    sight.room(name, sight.take(name, sight.words[at], HEADER[sight.word].size))


def message_out(sight: Sight, name: str, at: int, _size: int) -> None:
    sight.message(name, sight.take(name, sight.words[at], HEADER[sight.word].size), sight.ret)


def messages(sight: Sight, name: str, at: int, size: int) -> None:
    for entry, raw in sight.vector(name, sight.words[at], sight.words[size]):
        sight.message(entry, raw, None)


def messages_room(sight: Sight, name: str, at: int, size: int) -> None:
    for entry, raw in sight.vector(name, sight.words[at], sight.words[size]):
        sight.room(entry, raw)


def messages_sent(sight: Sight, name: str, at: int, _size: int) -> None:
    """The call wrote msg_len of as many entries as it returned."""
    sight.vector(name, sight.words[at], sight.ret)


def messages_out(sight: Sight, name: str, at: int, _size: int) -> None:
    for entry, raw in sight.vector(name, sight.words[at], sight.ret):
        (length,) = MMSGHDR[sight.word].unpack(raw)
        sight.message(entry, raw, length)


def ioctl_in(sight: Sight, name: str, at: int, size: int) -> None:
    """The argument of ioctl: `at`; the request: `size`."""
    sight.take(name, sight.words[at], _ioctl_size(sight, sight.words[size] & 0xFFFFFFFF, INT_IN))


def ioctl_out(sight: Sight, name: str, at: int, size: int) -> None:
    request = sight.words[size] & 0xFFFFFFFF
    stamp = TIME[sight.word].size if request in STAMPS else 16 if request in NEW_STAMPS else 0
    sight.take(name, sight.words[at], stamp or _ioctl_size(sight, request, INT_OUT))


def owner_in(sight: Sight, name: str, at: int, size: int) -> None:
    sight.take(name, sight.words[at], F_OWNER_EX if sight.words[size] & 0xFFFFFFFF == F_SETOWN_EX else 0)


def owner_out(sight: Sight, name: str, at: int, size: int) -> None:
    sight.take(name, sight.words[at], F_OWNER_EX if sight.words[size] & 0xFFFFFFFF == F_GETOWN_EX else 0)


def _int(raw: bytes) -> int:
    return int.from_bytes(raw, "little", signed=True)


def _ioctl_size(sight: Sight, request: int, ints: frozenset[int]) -> int:
    if request in ints:
        return INT
    if request == SIOCGIFCONF:
        return IFCONF[sight.word]
    return IFREQ[sight.word] if request in IFREQS else 0


_ADDRESS_IN: tuple[Step, ...] = ((address, "addr", 1, 2),)
_ADDRESS_LENGTH: tuple[Step, ...] = ((fixed, "addrlen", 2, INT),)
_ADDRESS_OUT: tuple[Step, ...] = ((address_out, "addr", 1, 2),)
_DATA_IN: tuple[Step, ...] = ((data, "buf", 1, 2),)
_DATA_OUT: tuple[Step, ...] = ((received, "buf", 1, 2),)
_SETS: tuple[Step, ...] = (
    (fd_set, "readfds", 1, 0),
    (fd_set, "writefds", 2, 0),
    (fd_set, "exceptfds", 3, 0),
    (time, "timeout", 4, 0),
)
_POLL: tuple[Step, ...] = ((pollfds, "fds", 0, 1),)
_PPOLL: tuple[Step, ...] = (*_POLL, (time, "timeout", 2, 0))

#: What to look at when the call enters, and when it returned without an error. What is not here has nothing to see.
ENTRY: dict[str, tuple[Step, ...]] = {
    "bind": _ADDRESS_IN,
    "connect": _ADDRESS_IN,
    "accept": _ADDRESS_LENGTH,
    "accept4": _ADDRESS_LENGTH,
    "getsockname": _ADDRESS_LENGTH,
    "getpeername": _ADDRESS_LENGTH,
    "send": _DATA_IN,
    "sendto": (*_DATA_IN, (address, "addr", 4, 5)),
    "recvfrom": ((fixed, "addrlen", 5, INT),),
    "setsockopt": ((option, "optval", 3, 4),),
    "getsockopt": ((fixed, "optlen", 4, INT),),
    "sendmsg": ((message, "msg", 1, 0),),
    "recvmsg": ((message_room, "msg", 1, 0),),
    "sendmmsg": ((messages, "msgvec", 1, 2),),
    "recvmmsg": ((messages_room, "msgvec", 1, 2), (time, "timeout", 4, 0)),
    "write": _DATA_IN,
    "readv": ((iovecs_room, "iov", 1, 2),),
    "writev": ((iovecs, "iov", 1, 2),),
    "poll": _POLL,
    "ppoll": _PPOLL,
    "_newselect": _SETS,
    "pselect6": _SETS,
    "ioctl": ((ioctl_in, "argp", 2, 1),),
    "fcntl": ((owner_in, "arg", 2, 1),),
    "fcntl64": ((owner_in, "arg", 2, 1),),
}
EXIT: dict[str, tuple[Step, ...]] = {
    "accept": _ADDRESS_OUT,
    "accept4": _ADDRESS_OUT,
    "getsockname": _ADDRESS_OUT,
    "getpeername": _ADDRESS_OUT,
    "socketpair": ((fixed, "sv", 3, SOCKET_PAIR),),
    "recv": _DATA_OUT,
    "recvfrom": (*_DATA_OUT, (address_out, "addr", 4, 5)),
    "getsockopt": ((option_out, "optval", 3, 4),),
    "recvmsg": ((message_out, "msg", 1, 0),),
    "sendmmsg": ((messages_sent, "msgvec", 1, 2),),
    "recvmmsg": ((messages_out, "msgvec", 1, 2), (time, "timeout", 4, 0)),
    "read": _DATA_OUT,
    "readv": ((iovecs_out, "iov", 1, 2),),
    "poll": _POLL,
    "ppoll": _PPOLL,
    "_newselect": _SETS,
    "pselect6": _SETS,
    "ioctl": ((ioctl_out, "argp", 2, 1),),
    "fcntl": ((owner_out, "arg", 2, 1),),
    "fcntl64": ((owner_out, "arg", 2, 1),),
}


def look(op: str, words: Sequence[int], read: Reader, ret: int | None, word: int) -> dict[str, bytes]:
    """The blobs a call points to: with `ret` None those it will read, else those it wrote, if `ret` is no error.

    Called while the caller is stopped. `read(address, size)` gives up to size bytes, fewer where memory ends; it is
    never asked for NULL, nor for more than the caps above. A blob that could not be read is not there. `word` 64 is
    a native x86-64 call; everything else, from whatever process, has the i386 layouts.
    """
    steps = (ENTRY if ret is None else EXIT).get(op)
    if steps is None or (ret is not None and ret < 0):
        return {}
    count = len(words)
    for _, _, at, size in steps:  # cheap: where every pointer is NULL there is nothing to see
        if (at < count and words[at]) or (size < count and words[size]):
            break
    else:
        return {}
    sight = Sight(words, read, ret, word)
    for step, name, at, size in steps:
        step(sight, name, at, size)
    return sight.blobs
