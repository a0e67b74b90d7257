"""The wire of a sandbox: every frame on its links, on the clock of the calls (packet(7), scapy to read them)."""

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
#: What a fence carries, and the port that nobody else uses (discard).
_FENCE, _FENCE_PORT = b"fence of the socketcall suite", 9
#: Nanoseconds by which the two clocks may drift apart in one sandbox before an order means nothing.
_JUMP = 50_000_000


class ClockJumped(Exception):
    """The machine's clock was set while frames were stamped by it: their order means nothing."""


class Wire:
    """Listens from its construction on. Raises OSError: EPERM without CAP_NET_RAW."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._offset = _offset()
        self._seen = 0

    def frames(self, deadline: float = 10) -> list[Frame]:
        """The frames since the last time, each once. What was sent before this was called is among them: a datagram of
        our own, sent over the loopback link now, comes after it. Raises TimeoutError, ClockJumped."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as fence:
            fence.sendto(_FENCE, ("127.0.0.1", _FENCE_PORT))
            _, port = fence.getsockname()
        found: list[Frame] = []
        end = time.monotonic() + deadline
        while True:
            frame = self._next(end)
            if frame is None:
                continue
            if _FENCE in frame.raw:
                break
            found.append(frame)
        self._swallow_answer(port, end)
        if abs(_offset() - self._offset) > _JUMP:
            raise ClockJumped("CLOCK_REALTIME was set while the wire was watched")
        return found

    def _next(self, end: float) -> Frame | None:
        if not select.select([self._socket], [], [], max(0, end - time.monotonic()))[0]:
            raise TimeoutError("a datagram that was sent never came by on the wire")
        raw, control, _, (link, _, kind, *_) = self._socket.recvmsg(_ROOM, 256)
        if kind == _PACKET_OUTGOING and link == "lo":
            return None  # On the loopback link it comes again, as received.
        stamp = next(_TIMESPEC.unpack(data) for level, type, data in control if type == _SO_TIMESTAMPNS)
        self._seen += 1
        return Frame(self._seen, stamp[0] * 1_000_000_000 + stamp[1] - self._offset, link, raw)

    def _swallow_answer(self, port: int, end: float) -> None:
        # Nobody listens on the fence's port: the kernel answers "port unreachable", which quotes the datagram.
        while True:
            frame = self._next(end)
            if frame is not None and _FENCE[:8] in frame.raw:
                return


def _offset() -> int:
    """CLOCK_REALTIME minus CLOCK_MONOTONIC in nanoseconds, by the tightest of a few looks."""
    best = None
    for _ in range(5):
        before = time.monotonic_ns()
        real = time.time_ns()
        after = time.monotonic_ns()
        if best is None or after - before < best[0]:
            best = after - before, real - (before + after) // 2
    assert best is not None
    return best[1]
