"""Operations that wait: what wakes them, which process receives what, and signals after some of it was transferred."""

import os
import socket
from contextlib import suppress

import pytest

from probes.testing import behaviour
from probes.testing.signals import state
from tests.transfer.exchange import came
from tests.transfer.message_layouts import UNSET, array, lengths

WAITALL = socket.MSG_WAITALL
SIGNALS = "signal(7) Interruption of system calls"


@pytest.fixture
def pair(caller):
    """Makes a descriptor of the caller, and two sockets of this process: pair(type=SOCK_STREAM, tcp=False).

    The descriptor is of the first socket; the other one is its peer.
    """
    made = []

    def make(type: int = socket.SOCK_STREAM, tcp: bool = False) -> tuple[int, socket.socket, socket.socket]:
        if tcp:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                near = socket.create_connection(listener.getsockname())
                far, _ = listener.accept()
        else:
            near, far = socket.socketpair(socket.AF_UNIX, type)
        made.extend((near, far))
        return caller.adopt(near.fileno()), near, far

    yield make
    for one in made:
        one.close()


def streams(pair):
    """Makes a connection of TCP and one of AF_UNIX, by name: the descriptor and its peer."""
    for kind in ("tcp", "unix-stream"):
        fd, _, far = pair(tcp=kind == "tcp")
        yield kind, fd, far


def received(far: socket.socket) -> int:
    """Returns how many bytes are queued on a socket, and takes them."""
    count = 0
    far.setblocking(False)
    with suppress(BlockingIOError):
        while data := far.recv(1 << 20):
            count += len(data)
    return count


@behaviour("transfer.waiting.receives", "recv(2) `wait for a message to arrive`; read(2); recvmmsg(2); tcp_recvmsg")
def test_receives(exchange, pair, meanwhile, expect):
    """An operation that receives waits until something comes, and returns that, not what its room takes."""
    datagrams, _, peer = pair(socket.SOCK_DGRAM)
    for kind, fd, far in (*streams(pair), ("unix-dgram", datagrams, peer)):
        for op in exchange.receiving:
            check = expect(came(op, b"woken"), kind=kind, op=op)
            with meanwhile(lambda far=far: far.send(b"woken")):
                done = exchange.receive(op, fd, 8)
            check.of(done)


@behaviour("transfer.waiting.wait-all", "recv(2) MSG_WAITALL `block until the full request is satisfied`; sk_wait_data")
def test_wait_all(exchange, pair, meanwhile, expect):
    """With MSG_WAITALL an operation on a stream waits for as many bytes as were requested, over several arrivals, or for the
    end.
    """
    for kind, fd, far in streams(pair):
        for op in exchange.receiving_with_flags:
            parts = [lambda far=far, part=part: far.send(part) for part in (b"ab", b"cd", b"efg")]
            check = expect([came(op, b"abcdef"), came("recv", b"g")], kind=kind, op=op)
            with meanwhile(*parts):
                done = exchange.receive(op, fd, 6, WAITALL)
            rest = exchange.receive("recv", fd, 8)
            check.of([done.value, rest.value], done, rest)
        check = expect(came("recv", b"abc"), kind=kind, op="recv", until="end")
        with meanwhile(lambda far=far: far.send(b"abc"), lambda far=far: far.shutdown(socket.SHUT_WR)):
            done = exchange.receive("recv", fd, 8, WAITALL)
        check.of(done)


@behaviour("transfer.waiting.sends", "send(2) `normally blocks`; write(2); sock_alloc_send_pskb, sk_stream_wait_memory")
def test_sends(exchange, pair, memory, meanwhile, expect):
    """An operation that sends more than fits waits for room, and returns the whole number once all was taken."""
    size = 1 << 18
    block = memory.alloc(size)
    for tcp in (True, False):
        fd, near, far = pair(tcp=tcp)
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)

        def take_all(far=far) -> None:
            left = size
            while left:
                left -= len(far.recv(1 << 16))

        for op in exchange.over(("send", "write")):
            check = expect(size, kind="tcp" if tcp else "unix-stream", op=op)
            with meanwhile(take_all):
                sent = exchange.make(op, fd, block, size, *([0] if op == "send" else []))
            check.of(sent)


@behaviour("transfer.waiting.partly-sent", f"{SIGNALS} `has already transferred some data`; write(2) RETURN VALUE")
@pytest.mark.parametrize("restart", [False, True], ids=["no-restart", "sa-restart"])
def test_partly_sent(restart, exchange, pair, memory, meanwhile, expect):
    """An operation that sends and is interrupted by a handler after it has sent some bytes returns their number, with
    SA_RESTART too.
    """
    meanwhile.catch(restart)
    block = memory.alloc(1 << 20)
    for op in exchange.over(("send", "sendto", "write")):
        fd, _, far = pair()
        check = expect([True, True], op=op)
        with meanwhile(meanwhile.signal):
            tail = {"send": [0], "sendto": [0, 0, 0], "write": []}[op]
            sent = exchange.make(op, fd, block, block.size, *tail)
        check.of([0 < sent < block.size, received(far) == sent], sent)


@behaviour("transfer.waiting.messages-received", f"{SIGNALS}; recvmmsg(2); do_recvmmsg `datagrams > 0`")
@pytest.mark.parametrize("restart", [False, True], ids=["no-restart", "sa-restart"])
def test_messages_received(restart, exchange, pair, memory, meanwhile, expect):
    """recvmmsg that a handler interrupts after some messages returns their number, with SA_RESTART too."""
    meanwhile.catch(restart)
    for op in exchange.over(("recvmmsg", "recvmmsg_time64")):
        fd, _, far = pair(socket.SOCK_DGRAM)
        for text in (b"one", b"two"):
            far.send(text)
        block = array(memory, [(memory.alloc(8), 8)] * 3)
        check = expect([2, [3, 3, UNSET]], op=op)
        with meanwhile(meanwhile.signal):
            result = exchange.make(op, fd, block, 3, 0, 0)
        check.of([int(result), lengths(block)], result)


@behaviour("transfer.waiting.messages-sent", f"{SIGNALS}; sendmmsg(2); __sys_sendmmsg")
@pytest.mark.parametrize("restart", [False, True], ids=["no-restart", "sa-restart"])
def test_messages_sent(restart, exchange, pair, memory, meanwhile, expect):
    """sendmmsg that a handler interrupts after some messages returns their number, with SA_RESTART too, and writes the
    lengths of these.
    """
    meanwhile.catch(restart)
    fd, near, far = pair(socket.SOCK_DGRAM)
    near.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            near.send(b"x")
    near.setblocking(True)
    far.recv(8)
    # There is room for one more.
    block = array(memory, [(memory.put(b"one"), 3), (memory.put(b"more"), 4)])
    check = expect([1, [3, UNSET]], op="sendmmsg")
    with meanwhile(meanwhile.signal):
        result = exchange.make("sendmmsg", fd, block, 2, 0)
    check.of([int(result), lengths(block)], result)


@behaviour("transfer.waiting.two-readers", "recv(2); socket(7); __skb_wait_for_more_packets `exclusive`")
def test_two_readers(exchange, pair, meanwhile, expect):
    """Of two processes that wait on one socket each message goes to one, whole."""
    for op in exchange.receiving:
        fd, near, far = pair(socket.SOCK_DGRAM)
        read, write = os.pipe()
        other = os.fork()
        if other == 0:
            os.write(write, near.recv(8))
            os._exit(0)
        check = expect([b"first", b"other", True], op=op)

        def send_both(far=far, other=other) -> None:
            while state(other) != "S":
                os.sched_yield()
            far.send(b"first")
            far.send(b"other")

        with meanwhile(send_both):
            done = exchange.receive(op, fd, 8)
        mine = next((one for one in done.value if isinstance(one, bytes)), b"") if isinstance(done.value, list) else b""
        theirs = os.read(read, 8)
        os.waitpid(other, 0)
        check.of([*sorted([mine, theirs]), done.value == came(op, mine)], done)
        for end in (read, write):
            os.close(end)
