"""close(2): releases the descriptor, and with the last descriptor the socket."""

import os
import socket
import struct
import threading
from errno import EADDRINUSE, EAGAIN, EBADF, ECONNREFUSED, ECONNRESET, EPIPE
from functools import partial
from itertools import product
from pathlib import Path
from select import POLLIN

import pytest

from probes.abi.operations import OPERATIONS, OTHER_CALLS, SOCKETCALL
from probes.entry.gate import Result
from probes.testing import behaviour, need, procfs
from probes.testing.blocking import fill
from probes.testing.socket_kinds import (
    CONNECTING,
    NETLINK,
    RAW,
    RAW6,
    TCP,
    UNIX,
    UNIX_STREAM,
    WITH_PORTS,
)
from probes.testing.states import possible

SOURCE = "close(2); S3 1 __NR_close; sys_close, close_fd, filp_close"
SOURCE_SOCKET = "close(2) `the last file descriptor`; S3; __fput, sock_close, __sock_release"
ALL = (*WITH_PORTS, RAW, RAW6, NETLINK, *UNIX)
MESSAGE, FCNTL, F_GETFD, F_SETFD, FD_CLOEXEC = b"abc", 55, 1, 2, 1


@behaviour("teardown.close.descriptor", SOURCE)
def test_descriptor(new_socket, calls, expect, expect_direct):
    """close returns 0; the descriptor then fails with EBADF in close, fcntl and getsockname, and socket reuses it."""
    for kind in ALL:
        sock = new_socket(*kind.triple)
        expect_direct(0, kind=kind).of(sock.close())
        expect_direct(-EBADF, kind=kind, call="close").of(sock.close())
        expect(-EBADF, kind=kind, call="getsockname").of(sock.sockname())
        expect_direct(-EBADF, kind=kind, call="fcntl").of(calls.syscall("fcntl", sock.fd, F_GETFD, 0))
        expect(sock.fd, kind=kind, call="socket").of(calls.socket(*kind.triple))
        need(calls.close(sock.fd))


@behaviour("teardown.close.any-state", f"{SOURCE_SOCKET}; fcntl(2) EBADF; inet_release, unix_release, netlink_release")
@pytest.mark.routes("direct")
def test_any_state(prepare, calls, expect):
    """close of a bound, listening or connected socket returns 0, and the descriptor is not open any more: fcntl fails with
    EBADF.
    """
    for kind, state in product(ALL, ("bound", "listening", "connected")):
        if not possible(state, kind):
            continue
        end = prepare(state, kind)
        check = expect([0, -EBADF], kind=kind, state=state)
        closed = calls.close(end.fd)
        after = calls.syscall("fcntl", end.fd, F_GETFD, 0)
        check.of([closed, after], closed, after)
        end.close()


@behaviour("teardown.close.bad-descriptor", f"{SOURCE} EBADF")
@pytest.mark.routes("direct")
def test_bad_descriptor(calls, expect):
    """close of a number that is not an open descriptor fails with EBADF: never opened, past the limit, or negative."""
    # From 15 on: which of the lower ones are open is the test runner's choice.
    numbers = {(1 << bit) + off & 0xFFFFFFFF for bit in range(4, 32) for off in (-1, 0, 1)}
    opened = procfs.descriptors()
    others = expect(opened, fd="others")
    results = []
    for fd in sorted(numbers - set(opened)):
        check = expect(-EBADF, fd=f"{fd:#x}")
        results.append(calls.close(fd))
        check.of(results[-1])
    others.of(procfs.descriptors(), *results)


@behaviour("teardown.close.address", f"{SOURCE_SOCKET}; bind(2) EADDRINUSE; inet_release, inet_put_port")
@pytest.mark.parametrize("kind", WITH_PORTS, ids=str)
def test_address(kind, new_socket, expect, expect_direct):
    """Closing a bound or listening socket frees its address: bind of another socket to it succeeds."""
    for state in ("bound", "listening") if kind in CONNECTING else ("bound",):
        sock, other = new_socket(*kind.triple), new_socket(*kind.triple)
        need(sock.bind(kind.address(5000)))
        if state == "listening":
            need(sock.listen())
        expect(-EADDRINUSE, state=state, step="before").of(other.bind(kind.address(5000)))
        expect_direct(0, state=state, step="close").of(sock.close())
        expect(0, state=state, step="after").of(other.bind(kind.address(5000)))
        need(other.close())


@behaviour("teardown.close.tables", f"{SOURCE_SOCKET}; proc(5) /proc/net; sk_common_release, unhash")
@pytest.mark.routes("direct")
def test_tables(new_socket, expect):
    """Closing a socket removes its row from the tables of /proc/net."""
    for kind in (kind for kind in ALL if kind is not NETLINK):
        sock = new_socket(*kind.triple)
        if kind in WITH_PORTS:
            need(sock.bind(kind.address(5000)))
        if kind in CONNECTING:
            need(sock.listen())
        inode = procfs.inode(sock.fd)
        before = procfs.tables_listing(inode)
        # The number of tables that list it before, the result of close, and the number of tables after.
        check = expect([1, 0, 0], kind=kind)
        closed = sock.close()
        after = procfs.read_until(partial(procfs.tables_listing, inode), [])
        check.of([len(before), closed, len(after)], closed)


@behaviour("teardown.close.peer", f"{SOURCE_SOCKET}; recv(2) RETURN VALUE, send(2) EPIPE; tcp_close, unix_release_sock")
@pytest.mark.parametrize("kind", [TCP, *(kind for kind in UNIX if kind.type != socket.SOCK_DGRAM)], ids=str)
def test_peer(kind, connected, calls, memory, expect, expect_direct):
    """When a socket is closed its peer receives the data sent before, then end of file, and its send fails with EPIPE.

    A TCP peer succeeds in one more send, which is answered by a reset.
    """
    left, right = connected(kind)
    room, text = memory.alloc(16), memory.put(MESSAGE)
    need(calls.make("send", left, text, 3, 0))
    expect_direct(0, step="close").of(calls.close(left))
    expect(3, step="what-was-sent").of(calls.make("recv", right, room, 16, 0))
    expect(0, step="the-end").of(calls.make("recv", right, room, 16, 0))
    if kind is TCP:
        expect(3, step="first-send").of(calls.make("send", right, text, 3, socket.MSG_NOSIGNAL))
    expect(-EPIPE, step="send").of(calls.make("send", right, text, 3, socket.MSG_NOSIGNAL))


@behaviour("teardown.close.unread", f"{SOURCE_SOCKET}; RFC 2525 2.17; tcp_close `data_was_unread`, unix_release_sock")
@pytest.mark.parametrize("kind", [TCP, UNIX_STREAM], ids=str)
def test_unread(kind, connected, calls, memory, expect, expect_direct):
    """Closing a socket whose receive queue is not empty resets the connection: recv of its peer fails with ECONNRESET."""
    left, right = connected(kind)
    need(calls.make("send", right, memory.put(MESSAGE), 3, 0))
    expect_direct(0, step="close").of(calls.close(left))
    expect(-ECONNRESET, step="recv").of(calls.make("recv", right, memory.alloc(16), 16, 0))


@behaviour("teardown.close.listener", f"{SOURCE_SOCKET}; connect(2) ECONNREFUSED; inet_csk_listen_stop")
@pytest.mark.parametrize("kind", CONNECTING, ids=str)
def test_listener(kind, new_socket, memory, calls, expect, expect_direct):
    """Closing a listening socket resets the connections that were not accepted, and later connects are refused."""
    server, waiting, late = (new_socket(*kind.triple) for _ in range(3))
    need(server.bind(kind.address(5000)))
    need(server.listen())
    need(waiting.connect(kind.address(5000)))
    expect_direct(0, step="close").of(server.close())
    expect(-ECONNRESET, step="waiting").of(calls.make("recv", waiting, memory.alloc(16), 16, 0))
    expect(-ECONNREFUSED, step="late").of(late.connect(kind.address(5000)))


@behaviour("teardown.close.last", f"{SOURCE_SOCKET}; dup(2), fork(2), unix(7) SCM_RIGHTS")
@pytest.mark.parametrize("kind", [TCP, UNIX_STREAM], ids=str)
@pytest.mark.parametrize("how", ["dup", "fork", "in-flight"])
def test_last(kind, how, connected, keepers, calls, memory, expect, expect_direct):
    """A socket is released by the close of its last descriptor only.

    A duplicate keeps it open, and so do the descriptor of another process and one in a message of AF_UNIX.
    """
    left, right = connected(kind)
    release = keepers.by[how](left)
    expect_direct(0, step="first").of(calls.close(left))
    expect(-EAGAIN, step="peer").of(calls.make("recv", right, memory.alloc(16), 16, socket.MSG_DONTWAIT))
    release()
    expect(0, step="last").of(calls.make("recv", right, memory.alloc(16), 16, 0))


@behaviour("teardown.close.exec", "close(2) NOTES FD_CLOEXEC; execve(2); do_close_on_exec")
def test_exec(calls, connected, children, memory, expect):
    """execve closes a descriptor that has FD_CLOEXEC and keeps one that has not: the peer sees end of file, or EAGAIN."""
    for name, flag in (("cloexec", FD_CLOEXEC), ("plain", 0)):
        left, right = connected(UNIX_STREAM)
        # socketpair made both ends without FD_CLOEXEC: the program must not inherit this one.
        need(calls.syscall("fcntl", right, F_SETFD, FD_CLOEXEC))
        _, release = children.execute((FCNTL, left, F_SETFD, flag))
        need(calls.close(left))
        expect(0 if flag else -EAGAIN, flag=name).of(
            calls.make("recv", right, memory.alloc(16), 16, socket.MSG_DONTWAIT)
        )
        release()


@behaviour(
    "teardown.close.signal", "close(2) EINTR; socket(7) SO_LINGER; inet_release, sk_stream_wait_close; signal(7)"
)
@pytest.mark.routes("direct")
def test_signal(connected, caller, calls, meanwhile, expect):
    """A lingering close (SO_LINGER) that a signal handler interrupts returns 0, not EINTR, and has closed the descriptor."""
    left, _ = connected(TCP)
    with socket.socket(fileno=caller.lend(left)) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 10_000))
        fill(sender)
    meanwhile.catch(restart=False)
    result, handled = expect(0, step="close"), expect(1, step="close", then="handled")
    once = expect([0], step="close", seen="ret")
    with meanwhile(meanwhile.signal, without=left):
        closed = calls.close(left)
        handled.of(meanwhile.handled(), closed)
    result.of(closed)
    once.seen("ret", closed)
    expect(-EBADF, step="again").of(calls.close(left))


@pytest.mark.python
@behaviour("teardown.close.blocked", "close(2) Multithreaded processes and close(); __fget_files, fdput")
@pytest.mark.parametrize("kind", [TCP, UNIX_STREAM], ids=str)
def test_blocked(kind, connected, calls, memory, expect, expect_direct):
    """close does not wake a recv of another thread on the descriptor; the socket is released when that recv returns.

    The recv still receives what the peer sends after the close.
    """
    left, right = connected(kind)
    room = memory.alloc(16)
    results: list[Result] = []
    blocked = expect([3, MESSAGE], step="blocked")
    thread = threading.Thread(target=lambda: results.append(calls.make("recv", left, room, 16, 0)))
    thread.start()
    await_recv(thread)
    expect_direct(0, step="close").of(calls.close(left))
    expect(-EBADF, step="after").of(calls.name("getsockname", left))
    need(calls.make("send", right, memory.put(MESSAGE), 3, 0))
    thread.join()
    blocked.of([results[0], room.read()[:3]], *results)
    expect(0, step="released").of(calls.make("recv", right, memory.alloc(16), 16, 0))


@behaviour(
    "teardown.close.while-blocked", "close(2) Multithreaded processes and close(); select(2); fdget, fput; clone(2)"
)
@pytest.mark.routes("direct")
@pytest.mark.parametrize("kind", [TCP, UNIX_STREAM], ids=str)
def test_while_blocked(kind, connected, calls, children, memory, expect):
    """close of a descriptor does not wake a process that shares it and is blocked in recv, poll or select; the call returns
    when the peer sends, as without the close.
    """
    recvfrom = OPERATIONS["recv"].direct
    for call in ("recv", "poll", "select"):
        left, right = connected(kind)
        made = {
            "recv": (recvfrom, left, memory.alloc(16), 16, 0, 0, 0),
            "poll": (OTHER_CALLS["poll"].direct, memory.put(struct.pack("<ihh", left, POLLIN, 0)), 1, -1),
            "select": (OTHER_CALLS["_newselect"].direct, left + 1, memory.put(struct.pack("<Q", 1 << left)), 0, 0, 0),
        }
        closed, again = expect(0, blocked=call, call="close"), expect(-EBADF, blocked=call, call="close-again")
        returned = expect(len(MESSAGE) if call == "recv" else 1, blocked=call, call=call)
        child = children.blocked(made[call])
        closed.of(calls.close(left))
        again.of(calls.close(left))
        sent = calls.make("send", right, memory.put(MESSAGE), len(MESSAGE), 0)
        need(sent, "send", returns=len(MESSAGE))
        returned.of(os.waitstatus_to_exitcode(children.ended(child)), sent)
        need(calls.close(right))


def await_recv(thread: threading.Thread) -> None:
    """Waits until a thread sleeps in recv, by proc(5) /proc/PID/task/TID/syscall: it also sleeps for the interpreter."""
    task = Path(f"/proc/self/task/{thread.native_id}")
    numbers = {str(SOCKETCALL), str(OPERATIONS["recv"].direct)}
    while True:
        number = (task / "syscall").read_text().split()[0]
        state = (task / "stat").read_text().rpartition(")")[2].split()[0]
        if number in numbers and state == "S":
            return
        os.sched_yield()
