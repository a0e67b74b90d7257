"""close(): the descriptor goes, and with the last one the socket."""

import fcntl
import os
import socket
import struct
import threading
from errno import EADDRINUSE, EAGAIN, EBADF, ECONNREFUSED, ECONNRESET, EPIPE
from pathlib import Path

import pytest

from probes.abi.numbers import OPERATIONS, SOCKETCALL
from probes.testing import Broke, behaviour, need
from probes.testing import procfs as witness
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

SOURCE = "close(2); S3 1 __NR_close; sys_close, close_fd, filp_close"
SOURCE_SOCKET = "close(2) `the last file descriptor`; S3; __fput, sock_close, __sock_release"
ALL = (*WITH_PORTS, RAW, RAW6, NETLINK, *UNIX)
MESSAGE, F_SETFD = b"abc", 2


@pytest.fixture
def pair(new_socket, calls):
    """pair(kind): two connected sockets, made by calls."""

    def make(kind):
        if kind.family == socket.AF_UNIX:
            ends = calls.memory.alloc(8)
            need(calls.make("socketpair", *kind.triple, ends))
            return ends.words()
        server, client = new_socket(*kind.triple), new_socket(*kind.triple)
        need(server.bind(kind.address(5000)))
        need(server.listen())
        need(client.connect(kind.address(5000)))
        accepted = need(server.accept())
        need(server.close())
        return int(client), accepted

    return make


@behaviour("teardown.close.descriptor", SOURCE)
def test_descriptor(new_socket, calls, expect):
    """close returns 0; then the descriptor refers to nothing, and the next one that is asked for has its number."""
    for kind in ALL:
        sock = new_socket(*kind.triple)
        fd = int(sock)
        expect(0, kind=kind).of(sock.close())
        expect(-EBADF, kind=kind, call="close").of(sock.close())
        expect(-EBADF, kind=kind, call="getsockname").of(sock.sockname()[0])
        expect(-EBADF, kind=kind, call="fcntl").of(calls.plain("fcntl", fd, 1, 0))
        expect(fd, kind=kind, call="socket").of(calls.socket(*kind.triple))
        need(calls.close(fd))


@behaviour("teardown.close.bad-descriptor", f"{SOURCE} EBADF")
@pytest.mark.routes("direct")
def test_bad_descriptor(calls, expect):
    """close of a number that is no open descriptor fails with EBADF: never opened, past the limit, or negative."""
    numbers = {(1 << bit) + off & 0xFFFFFFFF for bit in range(32) for off in (-1, 0, 1)}
    taken = witness.descriptors()
    for fd in sorted(numbers - set(taken)):
        expect(-EBADF, fd=f"{fd:#x}").of(calls.close(fd))
    expect(taken, fd="others").of(witness.descriptors(), calls.plain("getpid"))


@behaviour("teardown.close.address", f"{SOURCE_SOCKET}; bind(2) EADDRINUSE; inet_release, inet_put_port")
@pytest.mark.parametrize("kind", WITH_PORTS, ids=str)
def test_address(kind, new_socket, expect):
    """The address of a socket is free when it is closed, whether it was bound or listened."""
    for state in ("bound", "listening") if kind in CONNECTING else ("bound",):
        sock, other = new_socket(*kind.triple), new_socket(*kind.triple)
        need(sock.bind(kind.address(5000)))
        if state == "listening":
            need(sock.listen())
        expect(-EADDRINUSE, state=state, step="before").of(other.bind(kind.address(5000)))
        expect(0, state=state, step="close").of(sock.close())
        expect(0, state=state, step="after").of(other.bind(kind.address(5000)))
        need(other.close())


@behaviour("teardown.close.tables", f"{SOURCE_SOCKET}; proc(5) /proc/net; sk_common_release, unhash")
def test_tables(new_socket, expect):
    """The kernel's tables list a socket until it is closed."""
    for kind in (kind for kind in ALL if kind is not NETLINK):
        sock = new_socket(*kind.triple)
        if kind in WITH_PORTS:
            need(sock.bind(kind.address(5000)))
        if kind in CONNECTING:
            need(sock.listen())
        inode = witness.inode(int(sock))
        listed = len(witness.listed(inode))
        check = expect([1, 0, 0], kind=kind)
        closed = sock.close()
        after = witness.in_time(lambda inode=inode: witness.listed(inode), [])
        check.of([listed, closed, len(after)], closed)


@behaviour("teardown.close.peer", f"{SOURCE_SOCKET}; recv(2) RETURN VALUE, send(2) EPIPE; tcp_close, unix_release_sock")
@pytest.mark.parametrize("kind", [TCP, *(kind for kind in UNIX if kind.type != socket.SOCK_DGRAM)], ids=str)
def test_peer(kind, pair, calls, memory, expect):
    """The other end receives what was sent before, and then the end; what it sends after that is refused."""
    left, right = pair(kind)
    room, text = memory.alloc(16), memory.put(MESSAGE)
    need(calls.make("send", left, text, 3, 0))
    expect(0, step="close").of(calls.close(left))
    expect(3, step="what-was-sent").of(calls.make("recv", right, room, 16, 0))
    expect(0, step="the-end").of(calls.make("recv", right, room, 16, 0))
    if kind is TCP:
        # The first is answered by a reset: the kernel behind the closed end does not know it any more.
        expect(3, step="first-send").of(calls.make("send", right, text, 3, socket.MSG_NOSIGNAL))
    expect(-EPIPE, step="send").of(calls.make("send", right, text, 3, socket.MSG_NOSIGNAL))


@behaviour("teardown.close.unread", f"{SOURCE_SOCKET}; RFC 2525 2.17; tcp_close `data_was_unread`, unix_release_sock")
@pytest.mark.parametrize("kind", [TCP, UNIX_STREAM], ids=str)
def test_unread(kind, pair, calls, memory, expect):
    """Closing a socket with data that nobody received resets the other end: ECONNRESET."""
    left, right = pair(kind)
    need(calls.make("send", right, memory.put(MESSAGE), 3, 0))
    expect(0, step="close").of(calls.close(left))
    expect(-ECONNRESET, step="recv").of(calls.make("recv", right, memory.alloc(16), 16, 0))


@behaviour("teardown.close.listener", f"{SOURCE_SOCKET}; connect(2) ECONNREFUSED; inet_csk_listen_stop")
@pytest.mark.parametrize("kind", CONNECTING, ids=str)
def test_listener(kind, new_socket, memory, calls, expect):
    """When a listening socket is closed, who waits to be accepted is reset, and who comes afterwards refused."""
    server, waiting, late = (new_socket(*kind.triple) for _ in range(3))
    need(server.bind(kind.address(5000)))
    need(server.listen())
    need(waiting.connect(kind.address(5000)))
    expect(0, step="close").of(server.close())
    expect(-ECONNRESET, step="waiting").of(calls.make("recv", waiting, memory.alloc(16), 16, 0))
    expect(-ECONNREFUSED, step="late").of(late.connect(kind.address(5000)))


@behaviour("teardown.close.last", f"{SOURCE_SOCKET}; dup(2), fork(2), unix(7) SCM_RIGHTS")
@pytest.mark.parametrize("kind", [TCP, UNIX_STREAM], ids=str)
@pytest.mark.parametrize("how", ["dup", "fork", "in-flight"])
def test_last(kind, how, pair, calls, expect):
    """Only the close of the last descriptor releases the socket: a duplicate keeps it, another process's, and one that
    is on its way over AF_UNIX.
    """
    left, right = pair(kind)
    release = OTHERS[how](left)
    expect(0, step="first").of(calls.close(left))
    expect(-EAGAIN, step="peer").of(calls.make("recv", right, calls.memory.alloc(16), 16, socket.MSG_DONTWAIT))
    release()
    expect(0, step="last").of(calls.make("recv", right, calls.memory.alloc(16), 16, 0))


def in_dup(fd):
    """A duplicate; returns what closes it."""
    other = os.dup(fd)
    return lambda: os.close(other)


def in_child(fd):
    """A child that has it; returns what ends the child."""
    held, hold = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(hold)
        os.read(held, 1)
        os._exit(0)
    os.close(held)

    def end():
        os.close(hold)
        os.waitpid(child, 0)

    return end


def in_flight(fd):
    """A message that carries it; returns what drops the message."""
    ends = socket.socketpair()
    socket.send_fds(ends[0], [b"x"], [fd])
    return lambda: [end.close() for end in reversed(ends)]


OTHERS = {"dup": in_dup, "fork": in_child, "in-flight": in_flight}


@behaviour("teardown.close.exec", "close(2) NOTES FD_CLOEXEC; execve(2); do_close_on_exec")
def test_exec(calls, pair, expect):
    """A descriptor with FD_CLOEXEC is closed when its process executes a program, another is not."""
    for name, flag in (("cloexec", 1), ("plain", 0)):
        left, right = pair(UNIX_STREAM)
        # socketpair has made both without FD_CLOEXEC: the program has the other end as well.
        need(calls.plain("fcntl", right, F_SETFD, 1))
        end = in_program(left, flag)
        need(calls.close(left))
        check = expect(0 if flag else -EAGAIN, flag=name)
        check.of(calls.make("recv", right, calls.memory.alloc(16), 16, socket.MSG_DONTWAIT))
        end()


def in_program(fd, flag):
    """Executes cat in a child that has a descriptor with a flag; returns, once it runs, what ends it."""
    (fed, feed), (answer, told) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(fed, 0)
        os.dup2(told, 1)
        fcntl.fcntl(fd, fcntl.F_SETFD, flag)
        os.execvp("cat", ["cat"])
    os.close(told)
    os.close(fed)
    os.write(feed, b"x")
    # What cat writes back says that it is running.
    need_read = os.read(answer, 1)

    def end():
        os.close(feed)
        os.waitpid(child, 0)
        os.close(answer)

    if need_read != b"x":
        raise Broke("cat does not run")
    return end


@behaviour(
    "teardown.close.signal", "close(2) EINTR; socket(7) SO_LINGER; inet_release, sk_stream_wait_close; signal(7)"
)
def test_signal(pair, calls, memory, meanwhile, expect):
    """A close that waits for what was not sent yet (SO_LINGER) ends when a handler interrupts it, with 0: there is no
    EINTR to try again after, and the descriptor is closed.
    """
    left, _ = pair(TCP)
    with socket.socket(fileno=os.dup(left)) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 10_000))
        fill(sender)
    meanwhile.catch(restart=False)
    with meanwhile(meanwhile.signal):
        check = expect(0, step="close")
        closed = calls.close(left)
        check.of(closed)
    expect([0], step="close", seen="ret").seen("ret", closed)
    expect(-EBADF, step="again").of(calls.close(left))


@behaviour("teardown.close.blocked", "close(2) Multithreaded processes and close(); __fget_files, fdput")
@pytest.mark.parametrize("kind", [TCP, UNIX_STREAM], ids=str)
def test_blocked(kind, pair, calls, memory, expect):
    """A call of another thread that is blocked on the descriptor goes on when it is closed: it still receives what
    comes, and the socket is released after it.
    """
    left, right = pair(kind)
    room, results = memory.alloc(16), []
    thread = threading.Thread(target=lambda: results.append(calls.make("recv", left, room, 16, 0)))
    thread.start()
    await_blocked(thread.native_id)
    expect(0, step="close").of(calls.close(left))
    expect(-EBADF, step="after").of(calls.name("getsockname", left)[0])
    need(calls.make("send", right, memory.put(MESSAGE), 3, 0))
    check = expect([3, MESSAGE], step="blocked")
    thread.join()
    check.of([results[0], room.read()[:3]], *results)
    expect(0, step="released").of(calls.make("recv", right, memory.alloc(16), 16, 0))


def await_blocked(thread):
    """Waits until a thread is asleep in recv (proc(5), /proc/PID/task/TID/syscall), and not for the interpreter."""
    files = [Path(f"/proc/self/task/{thread}/{name}") for name in ("syscall", "stat")]
    wanted = {str(SOCKETCALL), str(OPERATIONS["recv"].direct)}
    while True:
        call, stat = (file.read_text() for file in files)
        if call.split()[0] in wanted and stat.rpartition(")")[2].split()[0] == "S":
            return
        os.sched_yield()
