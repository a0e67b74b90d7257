"""close(2) of connections with data under way: SO_LINGER, unread data, sockets that outlive their descriptor."""

import socket
import struct
from errno import EAGAIN, EBADF, ECONNRESET, EPIPE
from functools import partial
from select import POLLERR, POLLHUP, POLLIN, POLLOUT

import pytest

from probes.testing import behaviour, need, procfs
from probes.testing.blocking import fill
from probes.testing.readiness import POLLRDHUP, WANTED
from probes.testing.socket_kinds import TCP, TCP6, UNIX_SEQPACKET, UNIX_STREAM
from probes.testing.states import DATA

SOURCE = "close(2); socket(7) SO_LINGER; tcp(7)"
NOW, QUIET = socket.MSG_DONTWAIT, socket.MSG_NOSIGNAL
#: struct linger: l_onoff, l_linger in seconds.
RESETS, WAITS, IGNORED = struct.pack("<ii", 1, 0), struct.pack("<ii", 1, 1000), struct.pack("<ii", 0, 1000)
TCP_LINGER2 = 8
#: The first byte of TCP_INFO: include/net/tcp_states.h.
FIN_WAIT2, CLOSE_WAIT = b"\x05", b"\x08"
RESET = POLLIN | POLLOUT | POLLERR | POLLHUP | POLLRDHUP
ENDED = POLLIN | POLLOUT | POLLRDHUP
#: Bytes of a stream that one recv takes here.
ROOM = 1 << 20


@pytest.fixture
def receive(calls, memory):
    """Receives four bytes from a descriptor without blocking."""
    return lambda fd: calls.make("recv", fd, memory.scratch(bytes(4), "room"), 4, NOW)


@behaviour("teardown.linger.zero", f"{SOURCE}; RFC 9293 3.10.5; __tcp_close SOCK_LINGER sk_lingertime tcp_disconnect")
@pytest.mark.parametrize("kind", [TCP, TCP6], ids=str)
def test_zero(kind, prepare, readiness, calls, receive, expect, expect_direct):
    """close with SO_LINGER on and time 0 resets the connection: the peer reads what had come, fails once with ECONNRESET,
    and then finds the end. No connection is left in TIME_WAIT.
    """
    end = prepare("connected-by-name", kind)
    end.send(end.fd, DATA)
    end.wait(end.peer)
    need(calls.setsockopt(end.fd, socket.SOL_SOCKET, socket.SO_LINGER, RESETS))
    check = expect_direct(0, call="close")
    check.of(calls.close(end.fd))
    end.wait(end.peer, POLLERR)
    expect_direct([1, RESET], peer="poll").of(readiness.poll(end.peer, WANTED))
    for step, result in (("data", len(DATA)), ("reset", -ECONNRESET), ("end", 0)):
        expect(result, peer=step).of(receive(end.peer))
    # The same two addresses: in TIME_WAIT the first connect would fail.
    again = end.bound(end.client)
    expect(0, call="connect").of(calls.connect(again, end.server))


@behaviour("teardown.linger.off", f"{SOURCE}; inet_release `linger`; tcp_send_fin")
@pytest.mark.parametrize("kind", [TCP, UNIX_STREAM, UNIX_SEQPACKET], ids=str)
def test_off(kind, prepare, calls, receive, expect, expect_direct):
    """SO_LINGER that is off, and on with a time where nothing is queued, change nothing: close returns 0, and the peer
    receives what was sent and then the end. AF_UNIX ignores it, a time of 0 too.
    """
    cases = {"off": IGNORED, "time": WAITS} | ({} if kind is TCP else {"zero": RESETS})
    for number, (case, linger) in enumerate(cases.items()):
        end = prepare.another(number)("connected", kind)
        need(calls.setsockopt(end.fd, socket.SOL_SOCKET, socket.SO_LINGER, linger))
        end.send(end.fd, DATA)
        expect_direct(0, linger=case, call="close").of(calls.close(end.fd))
        for step, result in (("data", len(DATA)), ("end", 0)):
            end.wait(end.peer)
            expect(result, linger=case, peer=step).of(receive(end.peer))


@behaviour("teardown.linger.waits", f"{SOURCE}; inet_release, sk_stream_wait_close, sk_stream_closing")
@pytest.mark.parametrize("case", ["linger", "nonblock"])
@pytest.mark.routes("direct")
def test_waits(case, prepare, caller, calls, meanwhile, expect):
    """close with SO_LINGER and a time waits until the peer has received all that was sent, and the end; so does it on a
    socket with O_NONBLOCK.
    """
    end = prepare("connected", TCP)
    with socket.socket(fileno=caller.lend(end.fd)) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, WAITS)
        fill(sender)
        sender.setblocking(case == "linger")
    check, gone = expect(0, call="close"), expect(-EBADF, call="close-again")
    # Nothing is received before the caller sleeps: a close that does not wait leaves the peer without the FIN.
    has_the_end = expect(CLOSE_WAIT, peer="state")
    with socket.socket(fileno=caller.lend(end.peer)) as peer, meanwhile(partial(receive_all, peer), without=end.fd):
        closed = calls.close(end.fd)
        has_the_end.of(calls.getsockopt(end.peer, socket.IPPROTO_TCP, socket.TCP_INFO, 1).bytes, closed)
    check.of(closed)
    gone.of(calls.close(end.fd))


def receive_all(peer: socket.socket) -> None:
    """Receives until the end."""
    while peer.recv(ROOM):
        pass


@behaviour("teardown.orphan.sends-on", f"{SOURCE} `in the background`; tcp_close, sk_orphan; S3")
def test_sends_on(prepare, calls, memory, expect, expect_direct):
    """What was sent before close is sent after it too: close of a full socket returns 0, and the peer receives every byte
    and then the end.
    """
    for kind in (TCP, UNIX_STREAM):
        end = prepare("connected", kind)
        data, sent = memory.alloc(1 << 16), 0
        while (result := calls.make("send", end.fd, data, data.size, NOW)) > 0:
            sent += result
        need(result, "send to a full buffer", returns=-EAGAIN)
        expect_direct(0, kind=kind, call="close").of(calls.close(end.fd))
        room, check = memory.alloc(sent), expect([True, 0], kind=kind, peer="recv")
        whole = calls.make("recv", end.peer, room, sent, socket.MSG_WAITALL)
        last = calls.make("recv", end.peer, room, sent, 0)
        check.of([whole == sent, int(last)], whole, last)
        end.close()


@behaviour("teardown.orphan.refuses-data", "RFC 9293 3.6.1; RFC 2525 2.17; tcp_rcv_state_process FIN_WAIT2 SOCK_DEAD")
def test_refuses_data(prepare, readiness, calls, receive, expect, expect_direct):
    """Data for a TCP socket that was closed is answered by a reset: the first send of the peer succeeds, then poll reports
    POLLERR, SO_ERROR is EPIPE, once, and recv returns 0.
    """
    end = prepare("connected", TCP)
    expect_direct(0, call="close").of(calls.close(end.fd))
    end.wait(end.peer)
    expect(len(DATA), peer="first-send").of(calls.make("send", end.peer, calls.pointer(DATA), len(DATA), QUIET))
    end.wait(end.peer, POLLERR)
    expect_direct([1, RESET], peer="poll").of(readiness.poll(end.peer, WANTED))
    for step, error in (("first", EPIPE), ("second", 0)):
        expect(error, peer="so-error", time=step).of(
            calls.getsockopt(end.peer, socket.SOL_SOCKET, socket.SO_ERROR).as_int()
        )
    expect(0, peer="recv").of(receive(end.peer))


@behaviour("teardown.orphan.half-closed", f"{SOURCE} TCP_LINGER2; RFC 9293 3.6; tcp_close FIN_WAIT2, tcp_time_wait")
def test_half_closed(prepare, readiness, calls, receive, expect, expect_direct):
    """A peer of a closed TCP socket can end its own direction in peace; with TCP_LINGER2 below 0 the closed socket does
    not wait for that, and resets the connection.
    """
    for number, (case, value) in enumerate({"default": None, "minus-one": -1}.items()):
        end = prepare.another(number)("half-closed", TCP)
        state_of = partial(calls.getsockopt, end.fd, socket.IPPROTO_TCP, socket.TCP_INFO, 1)
        # The peer may delay the acknowledgement of the FIN.
        procfs.read_until(lambda state_of=state_of: state_of().bytes, FIN_WAIT2)
        if value is not None:
            need(calls.setsockopt(end.fd, socket.IPPROTO_TCP, TCP_LINGER2, value))
        expect_direct(0, linger2=case, call="close").of(calls.close(end.fd))
        if value is not None:
            end.wait(end.peer, POLLERR)
        expect_direct([1, ENDED if value is None else RESET], linger2=case, peer="poll").of(
            readiness.poll(end.peer, WANTED)
        )
        expect(0, linger2=case, peer="recv").of(receive(end.peer))
        if value is None:
            expect(0, linger2=case, peer="shutdown").of(calls.make("shutdown", end.peer, socket.SHUT_WR))
        else:
            sent = calls.make("send", end.peer, calls.pointer(DATA), len(DATA), QUIET)
            need(sent, "send after a reset", returns=-EPIPE)


@behaviour("teardown.close.states", "close(2); tcp_close, new_state; unix_release_sock; RFC 9293 3.10.4")
@pytest.mark.parametrize("kind", [TCP, UNIX_STREAM], ids=str)
def test_states(kind, prepare, readiness, calls, receive, expect, expect_direct):
    """close returns 0 in every state. The peer of a connection finds the end, or the reset where data was left unread;
    what the socket had ended before changes nothing.
    """
    unread = {"with-data", "data-and-end", "with-urgent-data"}
    states = ("connected", "half-closed", "peer-half-closed", "shut-down", "full", *unread)
    for number, state in enumerate((*states, "unbound", "bound", "listening", "pending", "reset")):
        if state == "with-urgent-data" and kind is UNIX_STREAM:
            continue
        end = prepare.another(number)(state, kind)
        expect_direct(0, state=state, call="close").of(calls.close(end.fd))
        if state not in states:
            continue
        resets = state in unread
        if resets:
            end.wait(end.peer, POLLERR)
        elif state != "full":
            end.wait(end.peer, POLLRDHUP)
        # A peer that has ended its own direction was in FIN_WAIT2: a reset or the end closes it.
        expect(-ECONNRESET if resets else 4 if state == "full" else 0, state=state, peer="recv").of(receive(end.peer))
