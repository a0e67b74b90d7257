"""A model of TCP that predicts the results of calls on a few sockets, and what poll reports of each after every call.

The rules about segments and events are in tcp_rules.py; here are the calls. The model predicts nothing, and the call is not
made, where it would block, or where no document states the result: shutdown of a socket without a connection fails with
ENOTCONN, and what it leaves differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from errno import EAGAIN, EALREADY, ECONNREFUSED, ECONNRESET, EINPROGRESS, EINVAL, EISCONN, ENOTCONN, EPIPE
from typing import NamedTuple

from tests.teardown.tcp_rules import (
    CLOSE_WAIT,
    CLOSED,
    ESTABLISHED,
    LISTEN,
    SYN_SENT,
    SYNCHRONIZED,
    End,
    Rules,
    rule,
)

#: The most sockets that a sequence has open at once.
SLOTS = 6
#: The port at which each SYN is dropped.
DARK = 1


class Call(NamedTuple):
    """A call on the socket of a slot.

    `op` is socket, bind, listen, connect, accept, send, recv, shutdown, error (getsockopt SO_ERROR), peer (getpeername),
    disconnect (connect to AF_UNSPEC), close, or abort (close with SO_LINGER 0). `value` is the port of bind and connect, the
    bytes of send and recv, the direction of shutdown, the slot of an accepted socket, and 1 for a non-blocking socket.
    """

    op: str
    slot: int
    value: int = 0


class Step(NamedTuple):
    """A call with its predicted result, 0 for a descriptor, and the predicted events of the open sockets by slot."""

    call: Call
    predicted: int
    events: dict[int, int]


class Model(Rules):
    """Predicts the results of calls, made one after the other. `slots` has the open sockets."""

    def __init__(self, inverted: str | None = None) -> None:
        """Has no socket yet."""
        super().__init__(inverted)
        self.slots: dict[int, End] = {}
        self._predict: dict[str, Callable[[End, int], int | None]] = {
            "bind": self._bind, "listen": self._listen, "connect": self._connect, "accept": self._accept,
            "send": self._send, "recv": self._recv, "shutdown": self._shutdown, "error": self._error,
            "peer": self._peer, "disconnect": self._disconnect,
        }  # fmt: skip

    def plan(self, calls: Iterable[Call]) -> Iterator[Step]:
        """Yields the calls that have a predicted result."""
        for call in calls:
            predicted = self.predict(call)
            if predicted is not None:
                yield Step(call, predicted, {slot: self.events(end) for slot, end in sorted(self.slots.items())})

    def predict(self, call: Call) -> int | None:
        """Returns the result of a call, None where the model predicts nothing."""
        if call.op == "socket":
            if call.slot in self.slots or len(self.slots) == SLOTS:
                return None
            self.slots[call.slot] = End(nonblock=bool(call.value))
            return 0
        end = self.slots.get(call.slot)
        if end is None:
            return None
        if call.op in ("close", "abort"):
            self.release(self.slots.pop(call.slot), call.op == "abort")
            return 0
        return self._predict[call.op](end, call.value)

    # Connections are made.

    @rule("bind(2) EINVAL; __inet_bind")
    def is_bound(self, end: End) -> bool:
        """bind of a socket with a port, or with a connection, fails."""
        return end.port != 0 or end.named or end.state == LISTEN

    def _bind(self, end: End, port: int) -> int | None:
        if end.named or end.state != CLOSED or any(other.port == port for other in self.slots.values()):
            return None
        if self.is_bound(end):
            return -EINVAL
        end.port = port
        return 0

    @rule("listen(2); inet_listen `sock->state != SS_UNCONNECTED`")
    def cannot_listen(self, end: End) -> bool:
        """listen of a socket that is, or was, connected fails."""
        return end.named

    def _listen(self, end: End, _: int) -> int | None:
        if not end.nonblock and not end.named:
            return None  # Its accept would block.
        if self.cannot_listen(end):
            return -EINVAL
        end.state = LISTEN
        return 0

    @rule("connect(2) EISCONN; __inet_stream_connect SS_CONNECTED, `sk_state != TCP_CLOSE`")
    def is_connected(self, end: End) -> bool:
        """connect of a socket that is, or was, connected fails, and so does that of a listener."""
        return end.named or end.state == LISTEN

    @rule("connect(2) EALREADY; __inet_stream_connect SS_CONNECTING")
    def is_connecting(self, end: End) -> bool:
        """connect during a connect fails with EALREADY."""
        return end.state == SYN_SENT

    @rule("connect(2) ECONNREFUSED; RFC 9293 3.10.7.1")
    def is_refused(self, listener: End | None) -> bool:
        """connect to a port without a listener fails."""
        return listener is None

    def _connect(self, end: End, port: int) -> int | None:
        if self.is_connecting(end):
            return -EALREADY
        if self.is_connected(end):
            return -EISCONN
        if end.nonblock != (port == DARK) or end.port == port:
            return None
        # An error that was pending is forgotten: tcp_connect_init.
        end.error = 0
        if port == DARK:
            end.state, end.named = SYN_SENT, True
            return -EINPROGRESS
        listener = next((one for one in self.slots.values() if one.state == LISTEN and one.port == port), None)
        if self.is_refused(listener) or listener is None:
            return -ECONNREFUSED
        end.state, end.named = ESTABLISHED, True
        end.peer = End(ESTABLISHED, named=True, peer=end)
        listener.queue.append(end.peer)
        return 0

    @rule("accept(2) EINVAL; inet_csk_accept `sk_state != TCP_LISTEN`")
    def cannot_accept(self, end: End) -> bool:
        """accept of a socket that does not listen fails."""
        return end.state != LISTEN

    @rule("accept(2) EAGAIN; inet_csk_accept")
    def has_waiting(self, end: End) -> bool:
        """accept of a non-blocking listener without a connection fails with EAGAIN."""
        return bool(end.queue)

    @rule("listen(2); reqsk_queue_remove, inet_csk_reqsk_queue_add")
    def oldest_first(self) -> bool:
        """Connections are accepted in the order in which they came."""
        return True

    def _accept(self, end: End, slot: int) -> int | None:
        if self.cannot_accept(end):
            return -EINVAL
        if end.state == LISTEN and end.queue and (slot in self.slots or len(self.slots) == SLOTS):
            return None
        if not self.has_waiting(end) or not end.queue:
            return -EAGAIN
        self.slots[slot] = end.queue.pop(0 if self.oldest_first() else -1)
        return 0

    # Data.

    def _take_error(self, end: End) -> int:
        error, end.error = end.error, end.error if self.keeps_error() else 0
        return -error

    @rule("socket(7) SO_ERROR; sock_error")
    def keeps_error(self) -> bool:
        """A pending error is not kept when it was returned, by whatever call."""
        return False

    @rule("send(2) EPIPE; tcp_sendmsg TCPF_ESTABLISHED, TCPF_CLOSE_WAIT")
    def can_send(self, end: End) -> bool:
        """An end can send until it has sent its FIN, also after the peer's."""
        return end.state in (ESTABLISHED, CLOSE_WAIT)

    @rule("connect(2) EINPROGRESS; sk_stream_wait_connect, tcp_recvmsg")
    def waits(self, end: End) -> bool:
        """Sending and receiving wait during a connect: EAGAIN."""
        return end.state == SYN_SENT

    def _send(self, end: End, count: int) -> int | None:
        if self.can_send(end) and end.peer is not None:
            self.take_data(end.peer, count)
            return count
        if end.error:
            return self._take_error(end)
        return -EAGAIN if self.waits(end) else -EPIPE

    @rule("recv(2); tcp_recvmsg sk_receive_queue")
    def has_data(self, end: End) -> bool:
        """What has come is received before all else, also after a reset."""
        return end.inbox > 0

    @rule("recv(2) `orderly shutdown`; tcp_recvmsg SOCK_DONE")
    def is_at_end(self, end: End) -> bool:
        """After the peer's FIN recv returns 0, though an error is pending."""
        return end.ended

    @rule("recv(2) ENOTCONN; tcp_recvmsg TCP_CLOSE, TCP_LISTEN")
    def is_unconnected(self, end: End) -> bool:
        """recv of a socket without a connection fails."""
        return end.state in (CLOSED, LISTEN)

    def _recv(self, end: End, count: int) -> int | None:
        if end.state == LISTEN:
            return -ENOTCONN if self.is_unconnected(end) else -EAGAIN
        if self.has_data(end):
            taken = min(count, end.inbox)
            end.inbox -= taken
            return taken
        if self.is_at_end(end):
            return 0
        if end.error:
            return self._take_error(end)
        if end.no_reads:
            return 0
        return -ENOTCONN if self.is_unconnected(end) else -EAGAIN

    # The end.

    @rule("shutdown(2) ENOTCONN; inet_shutdown TCP_CLOSE")
    def has_no_connection(self, end: End) -> bool:
        """shutdown of a closed socket fails."""
        return end.state == CLOSED

    @rule("shutdown(2); inet_shutdown TCP_LISTEN, TCP_SYN_SENT")
    def is_dissolved(self, end: End, how: int) -> bool:
        """shutdown ends a connect in progress, and for receiving it ends a listener."""
        return end.state == SYN_SENT or (end.state == LISTEN and self.ends_reads(how))

    def _shutdown(self, end: End, how: int) -> int | None:
        if end.state == CLOSED and not (end.no_reads and end.no_writes):
            return None
        if self.has_no_connection(end):
            return -ENOTCONN
        if self.is_dissolved(end, how):
            return self._disconnect(end, 0)
        if end.state in SYNCHRONIZED:
            end.no_reads = end.no_reads or self.ends_reads(how)
            if self.ends_writes(how):
                self.finish(end)
        return 0

    def _error(self, end: End, _: int) -> int | None:
        return -self._take_error(end)

    @rule("getpeername(2) ENOTCONN; inet_getname TCPF_CLOSE, TCPF_SYN_SENT")
    def has_peer_name(self, end: End) -> bool:
        """A socket has a peer's name while it has a connection."""
        return end.state in SYNCHRONIZED

    def _peer(self, end: End, _: int) -> int | None:
        return 0 if self.has_peer_name(end) else -ENOTCONN

    @rule("connect(2) AF_UNSPEC; tcp_disconnect tcp_need_reset; RFC 9293 3.10.5")
    def is_reset(self, end: End) -> bool:
        """Dissolving the association of a connected socket resets the connection."""
        return end.state in SYNCHRONIZED

    @rule("tcp_disconnect `sk_err, ECONNRESET`")
    def notes_reset(self, end: End) -> bool:
        """The socket itself then has a pending ECONNRESET, after a connect in progress too."""
        return end.state in (*SYNCHRONIZED, SYN_SENT)

    def _disconnect(self, end: End, _: int) -> int | None:
        if end.state == LISTEN:
            self.stop_listening(end)
        if self.notes_reset(end):
            end.error = ECONNRESET
        peer = end.peer if self.is_reset(end) else None
        fresh = End(port=end.port, error=end.error, nonblock=end.nonblock)
        for name, value in vars(fresh).items():
            setattr(end, name, value)
        if peer is not None:
            self.take_reset(peer)
        return 0
