"""What the calls of the dispatch tables leave, by the names that SocketView gives it: from the documents, not from a run."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from errno import EAGAIN, ENOTCONN
from os import O_RDWR
from select import POLLIN, POLLOUT

from probes.testing.states import CLIENT_PORT, DATA, SERVER_PORT
from tests.multiplexer.call_words import inet
from tests.multiplexer.dispatch_table import UNSTATED
from tests.multiplexer.socket_view import Found

LOOPBACK, WILDCARD = "127.0.0.1", "0.0.0.0"
#: The one port that the kernel can choose in these tests.
EPHEMERAL = 40000
#: The events of a stream whose peer has shut down one direction: poll(2).
POLLRDHUP = 0x2000
#: The family of the address of an AF_UNIX socket without a name: unix(7).
UNNAMED = b"\1\0"

#: A name that a call which fails may have given to the socket: the kernel binds it before it checks the rest.
MAYBE_BOUND: Found = {"fd name": UNSTATED}
#: What is left of a socket from which everything was received.
EMPTIED: Found = {"fd queued": 0, "fd received": -EAGAIN, "fd events": POLLOUT}


def name_of(state: str, port: int) -> bytes:
    """Returns the address of an end, as the calls write it: of TCP and UDP a struct sockaddr_in."""
    return inet(port) if not state.startswith("unix") else b"\1\0\0%d" % port


def message(data: bytes, name: object = None, control: Sequence[object] = (), flags: int = 0) -> list[object]:
    """Returns a message as SocketView shows what was received."""
    return [data, list(control), flags, name]


#: The end of a stream.
ENDED = [message(b"")]


def delivered(*messages: list[object], queued: int) -> Found:
    """Returns what a peer has when these messages have come; `queued` bytes are the next to receive."""
    return {"peer received": [*messages], "peer queued": queued, "peer events": POLLIN | POLLOUT}


def sent(state: str, data: bytes = DATA, times: int = 1, control: Sequence[object] = ()) -> Found:
    """Returns what a call leaves that sends data so many times, in a state of the descriptor."""
    if not state.startswith("udp"):
        return delivered(message(data * times, control=control), queued=len(data) * times)
    port = EPHEMERAL if state == "udp-served" else CLIENT_PORT
    bound: Found = {"fd name": (WILDCARD, EPHEMERAL)} if state == "udp-served" else {}
    return bound | delivered(*[message(data, (LOOPBACK, port))] * times, queued=len(data))


def received(state: str, count: int, peek: bool = False) -> Found:
    """Returns what is left of the socket after so many bytes of DATA were requested; of a datagram nothing is left."""
    if peek or state == "ended":
        return {}
    rest = b"" if state.startswith("udp") else DATA[count:]
    return {"fd queued": len(rest), "fd received": [message(rest)]} if rest else {**EMPTIED}


def peer_name(state: str) -> bytes:
    """Returns the name that a receiving call writes: of a datagram its sender's, of a connected stream none."""
    return name_of(state, SERVER_PORT) if state.startswith("udp") else b""


def made(
    family: int,
    type_: int,
    protocol: int = 0,
    *,
    flags: tuple[int, int] = (0, O_RDWR),
    name: object = "",
    peer: object = -ENOTCONN,
    received: int = -EAGAIN,
    queued: int = 0,
    events: int = POLLOUT,
    number: int = 0,
) -> Found:
    """Returns the socket that a call has made, or the one of a `number`. `flags` are those of descriptor and file."""
    fields: Found = {
        "family": family, "type": type_, "protocol": protocol, "listens": 0, "error": 0, "flags": [*flags], "name": name,
        "peer": peer, "queued": queued, "received": received, "events": events,
    }  # fmt: skip
    return {"made": number + 1} | {f"made {number} {field}": value for field, value in fields.items()}


def file_flags(type_: int) -> tuple[int, int]:
    """Returns the flags of a descriptor and of its file that SOCK_CLOEXEC and SOCK_NONBLOCK set: fcntl(2)."""
    return int(bool(type_ & socket.SOCK_CLOEXEC)), O_RDWR | type_ & socket.SOCK_NONBLOCK


def unchanged(row: str, column: str, result: int | str) -> Found:
    """Returns nothing: the calls of a table leave everything as it was."""
    return {}
