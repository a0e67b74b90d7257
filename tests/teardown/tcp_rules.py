"""The states of a TCP connection as its two ends see them through calls: rules that restate RFC 9293 and make no call.

Every rule is a method that returns True or False and can be inverted: see probes/testing/rules.py. States are those of the
RFC as far as calls show them. FIN_WAIT_2 is FIN_WAIT_1 too, for no call shows when a FIN was acknowledged; a connection
in LAST_ACK or TIME_WAIT is CLOSED to its socket.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from errno import ECONNRESET, EPIPE
from select import POLLERR, POLLHUP, POLLIN, POLLOUT
from socket import SHUT_RD, SHUT_RDWR, SHUT_WR

from probes.testing.readiness import POLLRDHUP
from probes.testing.rules import Rulebook

CLOSED, LISTEN, SYN_SENT = "CLOSED", "LISTEN", "SYN-SENT"
ESTABLISHED, FIN_WAIT_2, CLOSE_WAIT = "ESTABLISHED", "FIN-WAIT-2", "CLOSE-WAIT"
#: States with a connection, which a reset ends.
SYNCHRONIZED = (ESTABLISHED, FIN_WAIT_2, CLOSE_WAIT)

rule = Rulebook()
#: Every rule of the model by name.
RULES = rule.rules


@dataclass(eq=False)
class End:
    """A TCP socket, or what is left of one without a descriptor (`orphan`).

    `inbox` counts the bytes to receive, `error` is the pending error, `ended` is True after the peer's FIN. `named` is True
    from a connect or accept on, until the association is dissolved. `queue` has the connections that wait at a listener.
    """

    state: str = CLOSED
    port: int = 0
    peer: End | None = None
    named: bool = False
    inbox: int = 0
    error: int = 0
    ended: bool = False
    no_reads: bool = False
    no_writes: bool = False
    orphan: bool = False
    nonblock: bool = False
    queue: list[End] = field(default_factory=list)


class Rules:
    """What a FIN, a reset, data and a close do to both ends of a connection."""

    def __init__(self, inverted: str | None = None) -> None:
        """Takes the name of a rule to invert. Raises ValueError if there is none of that name."""
        rule.check(inverted)
        self.inverted = inverted

    # Segments that arrive.

    @rule("RFC 9293 3.10.7.4 FIN: FIN-WAIT-2, TIME-WAIT; tcp_fin, tcp_time_wait")
    def both_ended(self, end: End) -> bool:
        """A FIN for an end that has sent its own ends the connection: the socket is closed."""
        return end.state == FIN_WAIT_2

    def take_fin(self, end: End) -> None:
        """The peer ends its direction."""
        end.ended = end.no_reads = True
        if self.both_ended(end):
            self._close_state(end)
        else:
            end.state = CLOSE_WAIT

    @rule("RFC 9293 3.10.7.4 RST: CLOSE-WAIT; tcp_reset")
    def is_broken_pipe(self, end: End) -> bool:
        """A reset after the peer's FIN is EPIPE, before it ECONNRESET."""
        return end.state == CLOSE_WAIT

    def take_reset(self, end: End) -> None:
        """The peer resets the connection. A closed end ignores that."""
        if end.state in SYNCHRONIZED:
            end.error = EPIPE if self.is_broken_pipe(end) else ECONNRESET
            self._close_state(end)

    def _close_state(self, end: End) -> None:
        end.state, end.no_reads, end.no_writes = CLOSED, True, True

    @rule("RFC 9293 3.6.1; RFC 2525 2.17; tcp_rcv_state_process SOCK_DEAD, tcp_timewait_state_process")
    def refuses_data(self, end: End) -> bool:
        """Data for a socket that was closed resets the connection."""
        return end.orphan

    @rule("tcp_rcv_state_process RCV_SHUTDOWN")
    def resets_both(self, end: End) -> bool:
        """Data for an end that has sent its FIN and receives no more resets both ends."""
        return end.state == FIN_WAIT_2 and end.no_reads

    def take_data(self, end: End, count: int) -> None:
        """Data of the peer arrives."""
        peer = end.peer
        assert peer is not None
        if self.refuses_data(end):
            self.take_reset(peer)
        elif self.resets_both(end):
            self.take_reset(end)
            self.take_reset(peer)
        else:
            end.inbox += count

    # Ends of a direction, and of a socket.

    @rule("RFC 9293 3.10.4 CLOSE: CLOSE-WAIT, LAST-ACK; tcp_close_state")
    def is_last_fin(self, end: End) -> bool:
        """The FIN of an end that has received one ends the connection: its socket is closed."""
        return end.state == CLOSE_WAIT

    @rule("RFC 9293 3.10.4 CLOSE: ESTABLISHED, CLOSE-WAIT; tcp_shutdown, tcp_close_state TCP_ACTION_FIN")
    def sends_fin(self, end: End) -> bool:
        """An end sends one FIN."""
        return end.state in (ESTABLISHED, CLOSE_WAIT)

    def finish(self, end: End) -> None:
        """Ends the direction of an end."""
        peer = end.peer
        if not self.sends_fin(end) or peer is None:
            return
        end.no_writes = True
        if self.is_last_fin(end):
            self._close_state(end)
        else:
            end.state = FIN_WAIT_2
        self.take_fin(peer)

    @rule("RFC 2525 2.17; __tcp_close `data_was_unread`")
    def loses_data(self, end: End) -> bool:
        """close with data that was not read resets the connection."""
        return end.inbox > 0

    @rule("RFC 9293 3.10.5 ABORT; socket(7) SO_LINGER; tcp_disconnect")
    def aborts(self, linger: bool) -> bool:
        """close with a linger time of 0 resets the connection."""
        return linger

    def release(self, end: End, linger: bool) -> None:
        """Closes the last descriptor of a socket."""
        if end.state == LISTEN:
            self.stop_listening(end)
        if end.state in SYNCHRONIZED and end.peer is not None and (self.loses_data(end) or self.aborts(linger)):
            peer, end.state = end.peer, CLOSED
            self.take_reset(peer)
        else:
            self.finish(end)
        end.orphan = True

    @rule("RFC 9293 3.10.4 CLOSE: LISTEN; inet_csk_listen_stop")
    def resets_waiting(self, end: End) -> bool:
        """Connections that were not accepted are reset when their listener ends."""
        return end.state in SYNCHRONIZED

    def stop_listening(self, listener: End) -> None:
        """Ends a listener."""
        for end in listener.queue:
            if self.resets_waiting(end) and end.peer is not None:
                self.take_reset(end.peer)
            end.state, end.orphan = CLOSED, True
        listener.queue.clear()
        listener.state = CLOSED

    # What poll reports.

    @rule("RFC 9293 3.10.7; tcp_poll SHUTDOWN_MASK, TCP_CLOSE; socket(7) POLLHUP")
    def hangs_up(self, end: End) -> bool:
        """A closed socket, or one with both directions ended, is hung up."""
        return end.state == CLOSED or (end.no_reads and end.no_writes)

    @rule("tcp_poll RCV_SHUTDOWN; poll(2) POLLRDHUP")
    def receives_no_more(self, end: End) -> bool:
        """A socket that receives no more can be read, and reports POLLRDHUP."""
        return end.no_reads

    @rule("tcp_stream_is_readable; inet_csk_listen_poll; socket(7) POLLIN")
    def is_readable(self, end: End) -> bool:
        """A socket with data can be read, and so can a listener with a connection."""
        return end.inbox > 0 or bool(end.queue)

    @rule("tcp_poll SEND_SHUTDOWN, sk_stream_is_writeable; socket(7) POLLOUT")
    def is_writable(self, end: End) -> bool:
        """A socket can be written to, so that it does not block, in each state but LISTEN and SYN-SENT."""
        return end.state not in (LISTEN, SYN_SENT)

    @rule("tcp_poll sk_err; poll(2) POLLERR")
    def has_error(self, end: End) -> bool:
        """A pending error is reported, but not of a listener."""
        return end.error != 0 and end.state != LISTEN

    def events(self, end: End) -> int:
        """Returns the events of a socket."""
        events = POLLERR if self.has_error(end) else 0
        if end.state == LISTEN:
            return events | (POLLIN if self.is_readable(end) else 0)
        events |= POLLHUP if self.hangs_up(end) else 0
        events |= POLLIN | POLLRDHUP if self.receives_no_more(end) else 0
        events |= POLLIN if self.is_readable(end) else 0
        return events | (POLLOUT if self.is_writable(end) else 0)

    # Which directions a shutdown concerns.

    @rule("shutdown(2) SHUT_RD, SHUT_RDWR")
    def ends_reads(self, how: int) -> bool:
        """SHUT_RD and SHUT_RDWR end the direction in which a socket receives."""
        return how in (SHUT_RD, SHUT_RDWR)

    @rule("shutdown(2) SHUT_WR, SHUT_RDWR")
    def ends_writes(self, how: int) -> bool:
        """SHUT_WR and SHUT_RDWR end the direction in which it sends."""
        return how in (SHUT_WR, SHUT_RDWR)
