"""Record the frames on the links of a sandbox, stamped by the clock of the calls (packet(7))."""

from __future__ import annotations

import select
import socket
import struct
import time

from probes.abi.frame import Frame

_ETH_P_ALL = 0x0003
_PACKET_OUTGOING = 4
_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("@ll")
_ROOM = 65536
#: Payload and destination port (discard, unused otherwise) of the datagram that marks the end of a recording.
_MARKER, _MARKER_PORT = b"socketcall: end of recording", 9
#: Nanoseconds by which CLOCK_REALTIME may be adjusted against CLOCK_MONOTONIC while frames are recorded.
_JUMP = 50_000_000


class ClockJumped(Exception):
    """Is raised when CLOCK_REALTIME, which stamps the frames, was set: they have no order among the calls then."""


class Wire:
    """Records from its construction on, by a packet socket. Raises OSError: EPERM without CAP_NET_RAW."""

    def __init__(self) -> None:
        """Open the packet socket on all links."""
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._offset = _offset()
        self._seen = 0

    def frames(self, deadline: float = 10) -> list[Frame]:
        """Return the frames since the last call, each once, including all that were sent before this call.

        A datagram sent now over the loopback link marks the end: it is recorded after those. Raises TimeoutError after
        `deadline` seconds, ClockJumped.
        """
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(_MARKER, ("127.0.0.1", _MARKER_PORT))
        found: list[Frame] = []
        end = time.monotonic() + deadline
        while True:
            frame = self._next(end)
            if frame is None:
                continue
            if _MARKER in frame.raw:
                break
            found.append(frame)
        self._discard_answer(end)
        if abs(_offset() - self._offset) > _JUMP:
            raise ClockJumped("CLOCK_REALTIME was set while frames were recorded; run the test again")
        return found

    def _next(self, end: float) -> Frame | None:
        if not select.select([self._socket], [], [], max(0, end - time.monotonic()))[0]:
            raise TimeoutError("the datagram that marks the end of a recording was not received on the loopback link")
        raw, control, _, (link, _, packet_type, *_) = self._socket.recvmsg(_ROOM, 256)
        if packet_type == _PACKET_OUTGOING and link == "lo":
            return None  # The loopback link delivers each frame twice: as sent and as received.
        stamp = next(_TIMESPEC.unpack(data) for level, type, data in control if type == _SO_TIMESTAMPNS)
        self._seen += 1
        return Frame(self._seen, stamp[0] * 1_000_000_000 + stamp[1] - self._offset, link, raw)

    def _discard_answer(self, end: float) -> None:
        # No socket has the marker's port: the kernel answers ICMP "port unreachable", which quotes the datagram.
        while True:
            frame = self._next(end)
            if frame is not None and _MARKER[:8] in frame.raw:
                return


def _offset() -> int:
    """Return CLOCK_REALTIME minus CLOCK_MONOTONIC in nanoseconds, by the shortest of five readings."""
    best = None
    for _ in range(5):
        before = time.monotonic_ns()
        real = time.time_ns()
        after = time.monotonic_ns()
        if best is None or after - before < best[0]:
            best = after - before, real - (before + after) // 2
    assert best is not None
    return best[1]
