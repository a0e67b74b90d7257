"""Waits until packets in flight over loopback have been received."""

from __future__ import annotations

from probes.entry.calls import Calls
from probes.testing.expect import need
from probes.testing.socket_kinds import UDP

#: Of the datagrams' socket: no other socket of a test has it.
_PORT = 4002
#: The frames of a handshake: each may send the next.
_FRAMES = 3


class Settling:
    """Sends datagrams to itself: a CPU receives packets in order (process_backlog), so those sent before have come too.

    Its calls are not traced, and made by the process whose packets are awaited: another one may run on another CPU.
    """

    def __init__(self, calls: Calls) -> None:
        """Makes the socket."""
        self._calls = Calls(calls.gate.quieted(), calls.route, calls.memory)
        self._fd = need(self._calls.socket(*UDP.triple), "socket")
        need(self._calls.bind(self._fd, UDP.address(_PORT)), "bind")
        need(self._calls.connect(self._fd, UDP.address(_PORT)), "connect")
        byte = calls.memory.scratch(bytes(1), "settling")
        # Made by the thousand: their words are packed once. A descriptor is that of one object at a time.
        self._send = self._calls.repeated(f"settling send {self._fd}", "send", self._fd, byte, 1, 0)
        self._receive = self._calls.repeated(f"settling recv {self._fd}", "recv", self._fd, byte, 1, 0)

    def settle(self) -> None:
        """Waits until what was sent has been received, and answered, as often as the frames of a handshake are."""
        for _ in range(_FRAMES):
            need(self._send(), "send", returns=1)
            need(self._receive(), "recv", returns=1)

    def close(self) -> None:
        """Closes the socket."""
        need(self._calls.close(self._fd), "close")
