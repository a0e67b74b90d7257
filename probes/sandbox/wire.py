"""Record the frames on the links of a sandbox, stamped by the clock of the calls (packet(7)).

That nothing more was sent is shown by a marker: a frame sent after it on the same link, from the end where frames come in
(`lo`, or the other end of a pair). The link's queue keeps their order, and the kernel answers a frame before it takes the
next, so all that was sent before the marker, and all answers, are recorded when the marker is. Timers are not covered: what
they send is waited for by its count.
"""

from __future__ import annotations

import select
import socket
import struct
import time

from probes.abi.frame import Frame

_ETH_P_ALL = 0x0003
_PACKET_OUTGOING = 4
_SO_TIMESTAMPNS = 35
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_TIMESPEC = struct.Struct("@ll")
_ROOM = 65536
#: Seconds after which a frame that is waited for does not come.
DEADLINE = 10.0
#: The marker is a broadcast of an Ethernet protocol for local experiments (IEEE 802a), which nothing here receives.
MARKER = bytes.fromhex("ffffffffffff 020000000009 88b6") + b"socketcall: end of recording "
#: Nanoseconds by which CLOCK_REALTIME may be adjusted against CLOCK_MONOTONIC while frames are recorded.
_JUMP = 50_000_000


class ClockJumped(Exception):
    """Is raised when CLOCK_REALTIME, which stamps the frames, was set: they have no order among the calls then."""


class Wire:
    """Records from its construction on, by a packet socket. Raises OSError: EPERM without CAP_NET_RAW; TimeoutError."""

    def __init__(self) -> None:
        """Open the packet socket on all links."""
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._offset = _offset()
        #: Every frame that `frames` has returned.
        self.recorded: list[Frame] = []
        self._seen = self._markers = 0
        sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._senders: list[tuple[socket.socket, str]] = [(sender, "lo")]
        self._await_stamps()

    def _await_stamps(self) -> None:
        """Send markers until one is stamped before it is read: the kernel begins with that later (net_enable_timestamp)."""
        end = time.monotonic() + DEADLINE
        sender, link = self._senders[0]
        while time.monotonic() < end:
            sender.sendto(MARKER, (link, 0))
            sent = time.time_ns()
            frame = self._next(end)
            if frame is not None and frame.raw.startswith(MARKER) and frame.t_ns + self._offset <= sent:
                return
        raise TimeoutError("the kernel stamps no frame when it passes")

    def watch(self, sender: socket.socket, link: str) -> None:
        """Take the other end of a pair of links: a packet socket there, and the name of its link."""
        self._senders.append((sender, link))

    def frames(self, at_least: int = 0, deadline: float = DEADLINE) -> list[Frame]:
        """Return the frames since the last call, each once, including all that were sent before this call.

        `at_least` waits for so many, where a timer or another process sends them; fewer are returned when the deadline is
        over. Raises TimeoutError if no marker was received within `deadline` seconds, ClockJumped.
        """
        found: list[Frame] = []
        end = time.monotonic() + deadline
        while len(found) < at_least and (frame := self._next(end)):
            found += [] if frame.raw.startswith(MARKER) else [frame]
        end = time.monotonic() + deadline
        open_ = set()
        for sender, link in self._senders:
            self._markers += 1
            open_.add(marker := MARKER + str(self._markers).encode())
            sender.sendto(marker, (link, 0))
        while open_:
            frame = self._next(end)
            if frame is None:
                raise TimeoutError("the frame that marks the end of a recording was not received")
            if frame.raw.startswith(MARKER):
                open_.discard(frame.raw)
            else:
                found.append(frame)
        if abs(_offset() - self._offset) > _JUMP:
            raise ClockJumped("CLOCK_REALTIME was set while frames were recorded; run the test again")
        self.recorded += found
        return found

    def arrived(self) -> list[Frame]:
        """Return the frames that have come since the last call, without waiting for others."""
        found = []
        while frame := self._next(0):
            found += [] if frame.raw.startswith(MARKER) else [frame]
        return found

    def lost(self) -> int:
        """Return how many frames found no room since the last call (packet(7) PACKET_STATISTICS)."""
        statistics = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
        return int.from_bytes(statistics[4:], "little")

    def _next(self, end: float) -> Frame | None:
        """Return the next frame, None if there is none until `end`. Frames are numbered in their order."""
        while select.select([self._socket], [], [], max(0, end - time.monotonic()))[0]:
            raw, control, _, (link, _, packet_type, *_) = self._socket.recvmsg(_ROOM, 256)
            if packet_type == _PACKET_OUTGOING and link == "lo":
                continue  # The loopback link delivers each frame twice: as sent and as received.
            stamp = next(_TIMESPEC.unpack(data) for level, type, data in control if type == _SO_TIMESTAMPNS)
            self._seen += not raw.startswith(MARKER)
            return Frame(self._seen, stamp[0] * 1_000_000_000 + stamp[1] - self._offset, link, raw)
        return None


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
