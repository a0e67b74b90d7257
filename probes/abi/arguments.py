"""How each argument of the 20 operations is told; plain.py has those of the plain calls.

Source: socket(2), bind(2), connect(2), listen(2), accept(2), getsockname(2), getpeername(2), socketpair(2), send(2),
recv(2), shutdown(2), getsockopt(2), sendmmsg(2), recvmmsg(2). A teller never raises: what it cannot tell stays the
pointer or the number that was passed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from probes.abi import names, values
from probes.abi.record import signed
from probes.abi.sight import ADDRESS, MMSGHDR, SOCKET_PAIR


@dataclass(frozen=True)
class Call:
    """One call as its arguments are told. `after` is empty until it returned without an error."""

    words: Sequence[int]
    before: Mapping[str, bytes]
    after: Mapping[str, bytes]
    ret: int | None
    word: int

    def at(self, index: int) -> int:
        """The argument, 0 if there is none."""
        return self.words[index] if index < len(self.words) else 0

    def pointer(self, index: int) -> str:
        return values.pointer(self.at(index))


#: Tells the argument at an index.
Teller = Callable[[Call, int], Any]


def integer(call: Call, index: int) -> Any:
    return signed(call.at(index))


def size(call: Call, index: int) -> Any:
    """A size_t or an unsigned int."""
    return call.at(index)


def pointer(call: Call, index: int) -> Any:
    return call.pointer(index)


def family(call: Call, index: int) -> Any:
    return names.family(call.at(index))


def socktype(call: Call, index: int) -> Any:
    return names.socktype(call.at(index))


def protocol(call: Call, index: int) -> Any:
    return names.protocol(call.at(0), call.at(index))


def how(call: Call, index: int) -> Any:
    return names.named(names.HOW, call.at(index))


def message_flags(call: Call, index: int) -> Any:
    return names.message_flags(call.at(index))


def accept_flags(call: Call, index: int) -> Any:
    return names.flags(names.TYPE_FLAGS, call.at(index))


def level(call: Call, index: int) -> Any:
    return names.level(call.at(index))


def option(call: Call, index: int) -> Any:
    return names.option(call.at(1), call.at(index))


def address_in(call: Call, index: int) -> Any:
    return values.address(call.before.get("addr"), ADDRESS, call.at(index))


def address_out(call: Call, index: int) -> Any:
    """The address that was written: as much as the room and the length that came back both cover (accept(2))."""
    room = values.integer(call.before.get("addrlen", b"")) or 0
    length = values.integer(call.after.get("addrlen", b"")) or 0
    return values.address(call.after.get("addr"), min(room, length), call.at(index))


def value_result(name: str) -> Teller:
    """A length that the call reads and writes."""

    def tell(call: Call, index: int) -> Any:
        asked = values.integer(call.before.get(name, b""))
        if asked is None:
            return call.pointer(index)
        came = values.integer(call.after.get(name, b""))
        return {"in": asked} if came is None else {"in": asked, "out": came}

    return tell


def data_in(call: Call, index: int) -> Any:
    raw = call.before.get("buf")
    return call.pointer(index) if raw is None else values.buffer(raw, call.at(index + 1))


def data_out(call: Call, index: int) -> Any:
    raw = call.after.get("buf")
    return call.pointer(index) if raw is None else values.buffer(raw, min(call.ret or 0, call.at(index + 1)))


def value_in(call: Call, index: int) -> Any:
    raw = call.before.get("optval")
    if raw is None:
        return call.pointer(index)
    return values.option_value(call.at(1), call.at(2), raw, signed(call.at(4)), call.word)


def value_out(call: Call, index: int) -> Any:
    raw, length = call.after.get("optval"), values.integer(call.after.get("optlen", b""))
    if raw is None or length is None:
        return call.pointer(index)
    return values.option_value(call.at(1), call.at(2), raw[: max(length, 0)], length, call.word)


def pair(call: Call, index: int) -> Any:
    raw = call.after.get("sv", b"")
    whole = len(raw) == SOCKET_PAIR
    return [values.integer(raw), values.integer(raw[4:])] if whole else call.pointer(index)


def message_in(call: Call, index: int) -> Any:
    return values.sent("msg", call.before, call.word) or call.pointer(index)


def message_out(call: Call, index: int) -> Any:
    return values.received("msg", call.before, call.after, call.ret or 0, call.word) or call.pointer(index)


def messages_in(call: Call, index: int) -> Any:
    """An array of mmsghdr; `len` in as many entries as the call returned (sendmmsg(2))."""
    lengths, blobs = _lengths(call), {**call.before, **_split(call, call.before)}
    told = [values.sent(name, blobs, call.word) for name in _split(call, call.before)]
    return [entry | length for entry, length in zip(told, lengths, strict=False)] or call.pointer(index)


def messages_out(call: Call, index: int) -> Any:
    """The same, received (recvmmsg(2))."""
    before, after = {**call.before, **_split(call, call.before)}, {**call.after, **_split(call, call.after)}
    told = []
    for name, length in zip(_split(call, call.before), _lengths(call), strict=False):
        told.append(values.received(name, before, after, length.get("len", 0), call.word) | length)
    return told or call.pointer(index)


def _lengths(call: Call) -> Iterator[dict[str, int]]:
    """What each entry got: its msg_len if the call wrote it, else nothing."""
    for raw in _split(call, call.after).values():
        yield {"len": MMSGHDR[call.word].unpack(raw)[0]}
    while True:
        yield {}


def _split(call: Call, blobs: Mapping[str, bytes]) -> dict[str, bytes]:
    """Each whole entry of a vector under the name of its message: an mmsghdr begins with its msghdr."""
    raw, stride = blobs.get("msgvec", b""), MMSGHDR[call.word].size
    return {f"msgvec.{i}": raw[i * stride : (i + 1) * stride] for i in range(len(raw) // stride)}


def moment(unit: str) -> Teller:
    """A timeout that the call may update."""

    def tell(call: Call, index: int) -> Any:
        asked = values.moment(call.before.get("timeout", b""), call.word, unit)
        came = values.moment(call.after.get("timeout", b""), call.word, unit)
        if asked is None:
            return call.pointer(index)
        return asked if came is None or came == asked else {"in": asked, "out": came}

    return tell


_NAME = (integer, address_out, value_result("addrlen"))
_DATA_IN = (integer, data_in, size, message_flags)
_DATA_OUT = (integer, data_out, size, message_flags)

#: In the order of numbers.OPERATIONS[…].args, which has their names.
SOCKET_CALLS: dict[str, tuple[Teller, ...]] = {
    "socket": (family, socktype, protocol),
    "bind": (integer, address_in, integer),
    "connect": (integer, address_in, integer),
    "listen": (integer, integer),
    "accept": _NAME,
    "getsockname": _NAME,
    "getpeername": _NAME,
    "socketpair": (family, socktype, protocol, pair),
    "send": _DATA_IN,
    "recv": _DATA_OUT,
    "sendto": (*_DATA_IN, address_in, integer),
    "recvfrom": (*_DATA_OUT, address_out, value_result("addrlen")),
    "shutdown": (integer, how),
    "setsockopt": (integer, level, option, value_in, integer),
    "getsockopt": (integer, level, option, value_out, value_result("optlen")),
    "sendmsg": (integer, message_in, message_flags),
    "recvmsg": (integer, message_out, message_flags),
    "accept4": (*_NAME, accept_flags),
    "recvmmsg": (integer, messages_out, size, message_flags, moment("nsec")),
    "sendmmsg": (integer, messages_in, size, message_flags),
}
