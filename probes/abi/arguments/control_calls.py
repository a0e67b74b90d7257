"""Defines the arguments of fcntl and ioctl, whose type is that of the command or request.

Source: fcntl(2), ioctl(2), netdevice(7), tcp(7), udp(7), socket(7); include/uapi/linux/sockios.h.
"""

from __future__ import annotations

from typing import Final

from probes.abi import layouts, names, options
from probes.abi.arguments.addresses import read_int
from probes.abi.arguments.argument import Argument, Fetched, format_pointer, word
from probes.abi.arguments.buffers import decode_buffer
from probes.abi.arguments.fetcher import INT, Fetcher
from probes.abi.record import Decoded, signed, unsigned
from probes.abi.sockaddr import printable


def _numbers(*wanted: str) -> frozenset[int]:
    return frozenset(names.value(name) for name in wanted)


_F_SETFD, _F_SETFL = names.value("F_SETFD"), names.value("F_SETFL")
_F_SETOWN_EX, _F_GETOWN_EX = names.value("F_SETOWN_EX"), names.value("F_GETOWN_EX")
#: fcntl commands whose argument is a pointer (fcntl(2)): locks, owners, hints.
_POINTERS: Final = _numbers(*(f"F_{name}" for name in (
    "GETLK", "SETLK", "SETLKW", "GETLK64", "SETLK64", "SETLKW64", "OFD_GETLK", "OFD_SETLK", "OFD_SETLKW", "CANCELLK",
    "SETOWN_EX", "GETOWN_EX", "GETOWNER_UIDS", "GET_RW_HINT", "SET_RW_HINT", "GET_FILE_RW_HINT", "SET_FILE_RW_HINT",
)))  # fmt: skip
#: ioctl requests whose argument points to an int the call reads, and to one it writes (tcp(7), udp(7), socket(7)).
_INT_IN: Final = _numbers("FIONBIO", "FIOASYNC", "FIOSETOWN", "SIOCSPGRP")
_INT_OUT: Final = _numbers("FIONREAD", "SIOCOUTQ", "SIOCOUTQNSD", "FIOGETOWN", "SIOCGPGRP", "SIOCATMARK")
_STAMPS: Final = _numbers("SIOCGSTAMP_OLD", "SIOCGSTAMPNS_OLD")
_NEW_STAMPS: Final = _numbers("SIOCGSTAMP_NEW", "SIOCGSTAMPNS_NEW")
_SIOCGIFCONF: Final = names.value("SIOCGIFCONF")
#: Those that take a struct ifreq: netdevice(7), include/uapi/linux/sockios.h "Socket configuration controls".
_IFREQS: Final = frozenset(
    {n for n in options.IOCTLS if names.value("SIOCGIFNAME") <= n <= names.value("SIOCSIFHWBROADCAST")}
    | _numbers("SIOCGIFTXQLEN", "SIOCSIFTXQLEN", "SIOCGIFMAP", "SIOCSIFMAP")
) - {_SIOCGIFCONF}


def _owner_in(fetcher: Fetcher, name: str, at: int) -> None:
    command = unsigned(fetcher.words[at - 1])
    fetcher.take(name, fetcher.words[at], layouts.F_OWNER_EX.size if command == _F_SETOWN_EX else 0)


def _owner_out(fetcher: Fetcher, name: str, at: int) -> None:
    command = unsigned(fetcher.words[at - 1])
    fetcher.take(name, fetcher.words[at], layouts.F_OWNER_EX.size if command == _F_GETOWN_EX else 0)


def _decode_command_argument(fetched: Fetched, index: int) -> Decoded:
    command, argument = unsigned(fetched.at(index - 1)), fetched.at(index)
    if command == _F_SETFL:
        return names.file_flags(argument)
    if command == _F_SETFD:
        return names.flags({1: "FD_CLOEXEC"}, argument)
    raw = fetched.after.get("arg", fetched.before.get("arg", b""))
    if len(raw) == layouts.F_OWNER_EX.size:
        return layouts.F_OWNER_EX.decode(raw)
    return format_pointer(argument) if command in _POINTERS else signed(argument)


def _argument_size(request: int, ints: frozenset[int], word: int) -> int:
    if request in ints:
        return INT
    if request == _SIOCGIFCONF:
        return layouts.IFCONF[word].size
    return layouts.IFREQ[word].size if request in _IFREQS else 0


def _request_in(fetcher: Fetcher, name: str, at: int) -> None:
    request = unsigned(fetcher.words[at - 1])
    fetcher.take(name, fetcher.words[at], _argument_size(request, _INT_IN, fetcher.word))


def _request_out(fetcher: Fetcher, name: str, at: int) -> None:
    request = unsigned(fetcher.words[at - 1])
    if request in _STAMPS:
        size = layouts.TIMEVAL[fetcher.word].size
    elif request in _NEW_STAMPS:
        size = layouts.TIMEVAL[64].size
    else:
        size = _argument_size(request, _INT_OUT, fetcher.word)
    fetcher.take(name, fetcher.words[at], size)


def _decode_request(number: int) -> Decoded:
    return options.IOCTLS.get(unsigned(number)) or hex(unsigned(number))


def _decode_request_argument(fetched: Fetched, index: int) -> Decoded:
    """Decode an int, an ifreq by its name, or bytes: what the call wrote, else what it read."""
    raw = fetched.after.get("argp", fetched.before.get("argp"))
    if raw is None:
        return fetched.pointer(index)
    if len(raw) == INT:
        return read_int(raw)
    if unsigned(fetched.at(index - 1)) in _IFREQS:
        name = raw[: layouts.IFNAMSIZ].split(b"\0")[0]
        return {"name": printable(name), "data": raw[layouts.IFNAMSIZ :].hex()}
    return decode_buffer(raw)


COMMAND = word("cmd", lambda value: names.named(options.FCNTL, value))
#: The argument of the command in the word before it.
COMMAND_ARGUMENT = Argument("arg", _decode_command_argument, entry=_owner_in, exit=_owner_out)
REQUEST = word("request", _decode_request)
#: The argument of the request in the word before it.
REQUEST_ARGUMENT = Argument("argp", _decode_request_argument, entry=_request_in, exit=_request_out)
