"""Prepared states (probes/testing/states.py): each is what it says, as Python's own sockets see it, over both routes."""

import errno
import os
import select
import socket

import pytest

from probes.abi.operations import ROUTES
from probes.entry.calls import Calls, SetUpRefused
from probes.entry.gate import Gate
from probes.entry.memory import Memory
from probes.testing import procfs
from probes.testing.socket_kinds import CONNECTING, NETLINK, PACKET_DGRAM, RAW, TCP, TCP6, UDP, UDP6, UNIX, UNIX_STREAM
from probes.testing.states import CLIENT_PORT, DATA, SERVER_PORT, STATES, URGENT, Prepare, possible

pytestmark = pytest.mark.sandbox(trace="none")

KINDS = (None, *CONNECTING, UDP, UDP6, *UNIX, NETLINK, RAW, PACKET_DGRAM)
#: include/net/tcp_states.h: the states that tcpi_state shows. The peer may delay the ACK of a FIN, so that a socket in
#: FIN_WAIT1 (4) is not yet in FIN_WAIT2 (5): both count as 5. The others: ESTABLISHED 1, SYN_SENT 2, CLOSE 7,
#: CLOSE_WAIT 8, LISTEN 10.
TCP_STATES = {
    "unbound": 7, "bound": 7, "beside-server": 7, "listening": 10, "pending": 10, "backlog-full": 10, "connecting": 2,
    "connected": 1, "with-data": 1, "with-urgent-data": 1, "full": 1, "half-closed": 5, "peer-half-closed": 8,
    "shut-down": 5, "reset": 7, "time-wait": 7, "connected-by-name": 1, "peer-closed": 8, "data-and-end": 8,
}  # fmt: skip


@pytest.fixture(params=ROUTES)
def prepare(request):
    """Prepare states over one route."""
    return Prepare(Calls(Gate("int80", quiet=True), request.param, Memory()))


def python_socket(fd):
    """Return a Python socket of the same open file description."""
    return socket.socket(fileno=os.dup(fd))


def events(fd):
    """Return what poll reports of a descriptor now."""
    poll = select.poll()
    poll.register(fd, select.POLLIN | select.POLLPRI | select.POLLOUT | select.POLLRDHUP)
    return next((found for _, found in poll.poll(0)), 0)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_closes_what_it_made(prepare, kind):
    before = procfs.descriptors()
    for state in STATES:
        if possible(state, kind):
            prepare(state, kind).close()
            assert procfs.descriptors() == before, state


@pytest.mark.parametrize("kind", CONNECTING, ids=str)
def test_tcp_states(prepare, kind):
    found = {}
    for name in STATES:
        if possible(name, kind):
            state = prepare(name, kind)
            with python_socket(state.fd) as here:
                number = here.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)[0]
            found[name] = 5 if number == 4 else number
            state.close()
            # The addresses of a connection in TIME_WAIT stay in use.
            if name == "time-wait":
                prepare = Prepare(state.calls, SERVER_PORT + 10, CLIENT_PORT + 10)
    assert found == TCP_STATES


@pytest.mark.parametrize("kind", (TCP, TCP6, UDP, UDP6), ids=str)
def test_addresses(prepare, kind):
    state = prepare("connected", kind)
    with python_socket(state.fd) as here, python_socket(state.peer) as there:
        assert here.getsockname()[1] == there.getpeername()[1] == CLIENT_PORT
        assert there.getsockname()[1] == here.getpeername()[1] == SERVER_PORT


def test_unix_addresses(prepare):
    with python_socket(prepare("pending", UNIX_STREAM).fd) as server:
        end, name = server.accept()
        end.close()
        assert (server.getsockname(), name) == (b"\x005000", b"\x005001")
    with python_socket(prepare("connected", UNIX_STREAM).fd) as one:
        assert (one.getsockname(), one.getpeername()) == ("", "")
    for kind in UNIX[:2]:
        other = Prepare(prepare("none").calls, SERVER_PORT + 10, CLIENT_PORT + 10)("connected-by-name", kind)
        with python_socket(other.fd) as here, python_socket(other.peer) as there:
            assert (here.getsockname(), there.getsockname()) == (b"\x005011", b"\x005010")
            assert (here.getpeername(), there.getpeername()) == (b"\x005010", b"\x005011")
        other.close()


@pytest.mark.parametrize("kind", (TCP, UDP, *UNIX, NETLINK, RAW, PACKET_DGRAM), ids=str)
def test_with_data(prepare, kind):
    with python_socket(prepare("with-data", kind).fd) as here:
        # A raw IPv4 socket receives the header of 20 bytes.
        assert here.recv(64, socket.MSG_DONTWAIT)[20 if kind is RAW else 0 :] == DATA


@pytest.mark.parametrize("kind", (TCP, *UNIX[::2]), ids=str)
def test_data_and_end(prepare, kind):
    with python_socket(prepare("data-and-end", kind).fd) as here:
        assert here.recv(64, socket.MSG_DONTWAIT) == DATA
        assert here.recv(64, socket.MSG_DONTWAIT) == b""


@pytest.mark.parametrize("kind", (TCP, *UNIX[::2]), ids=str)
def test_peer_closed(prepare, kind):
    state = prepare("peer-closed", kind)
    with python_socket(state.fd) as here:
        assert (here.recv(64, socket.MSG_DONTWAIT), state.peer) == (b"", -1)


def test_with_urgent_data(prepare):
    with python_socket(prepare("with-urgent-data", TCP).fd) as here:
        assert here.recv(1, socket.MSG_OOB) == URGENT


@pytest.mark.parametrize("kind", (TCP, *UNIX), ids=str)
def test_full(prepare, kind):
    state = prepare("full", kind)
    with python_socket(state.fd) as here, pytest.raises(BlockingIOError):
        here.send(b"x", socket.MSG_DONTWAIT)
    assert not events(state.fd) & select.POLLOUT


@pytest.mark.parametrize("kind", (TCP, UNIX_STREAM), ids=str)
def test_backlog_full(prepare, kind):
    server = prepare("backlog-full", kind)
    with socket.socket(kind.family, kind.type) as another, python_socket(server.fd) as listener:
        another.setblocking(False)
        with pytest.raises(BlockingIOError):
            another.connect(listener.getsockname())
        assert not events(another.fileno()) & select.POLLOUT or kind is UNIX_STREAM


@pytest.mark.parametrize(("state", "kind", "error"), [
    ("reset", TCP, errno.ECONNRESET), ("reset", UNIX_STREAM, errno.ECONNRESET),
    ("refused", UDP, errno.ECONNREFUSED), ("refused", UDP6, errno.ECONNREFUSED),
])  # fmt: skip
def test_pending_errors(prepare, state, kind, error):
    with python_socket(prepare(state, kind).fd) as here:
        assert here.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == error


@pytest.mark.parametrize("kind", (TCP, *UNIX[::2]), ids=str)
def test_half_closed(prepare, kind):
    with python_socket(prepare("peer-half-closed", kind).fd) as here:
        assert here.recv(1, socket.MSG_DONTWAIT) == b""
    other = Prepare(prepare("none").calls, SERVER_PORT + 10, CLIENT_PORT + 10)
    for state in ("half-closed", "shut-down"):
        made = other(state, kind)
        with python_socket(made.fd) as here, pytest.raises(BrokenPipeError):
            here.send(b"x", socket.MSG_NOSIGNAL)
        made.close()


def test_flags(prepare):
    state = prepare("listening", TCP, socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    assert not os.get_blocking(state.fd)
    assert not os.get_inheritable(state.fd)
    assert os.get_blocking(prepare("unbound", TCP).fd)


def test_no_such_state(prepare):
    with pytest.raises(ValueError, match="udp has no state 'listening'"):
        prepare("listening", UDP)
    with pytest.raises(ValueError, match="no socket has no state 'bound'"):
        prepare("bound")
    with pytest.raises(KeyError):
        prepare("engaged", TCP)


def test_an_address_in_use_refuses_the_set_up(prepare):
    prepare("bound", TCP)
    with pytest.raises(SetUpRefused, match="bind: -98 EADDRINUSE"):
        prepare("bound", TCP)
