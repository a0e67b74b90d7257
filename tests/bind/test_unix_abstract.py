"""Abstract names of AF_UNIX sockets, given to bind or chosen by the kernel (autobind)."""

import re
from errno import EADDRINUSE
from socket import SO_PASSCRED, SOL_SOCKET

import pytest

from probes.testing import behaviour, need, procfs
from probes.testing.socket_kinds import UNIX, UNIX_DGRAM
from tests.bind.bind_forms import family_word, unix

SOURCE_ABSTRACT = "unix(7) Abstract sockets; unix_bind_abstract"
SOURCE_AUTOBIND = "unix(7) Autobind feature; unix_autobind"
CLONE_NEWNET = 0x40000000
#: A name that autobind chooses.
CHOSEN = re.compile(re.escape(family_word(1)) + rb"\0[0-9a-f]{5}")

each_kind = pytest.mark.parametrize("kind", UNIX, ids=str)


@behaviour("bind.unix.abstract", SOURCE_ABSTRACT)
@each_kind
def test_abstract(kind, new_socket, expect, caller, memory):
    """A name that begins with NUL is abstract: bind makes no file, and the name is all its bytes, further NULs included,
    but not a NUL behind the length. The umask has no effect.
    """
    old = caller.umask(0o777)
    names = {
        "null": b"\0", "text": b"\0name", "terminated": b"\0name\0", "nulls": b"\0" * 50, "within": b"\0a\0b",
        "path": b"\0/dev/null", "longest": b"\0" + b"n" * 107, "bytes": b"\0\xff\x80",
    }  # fmt: skip
    files, results = expect([], then="files"), []
    for case, name in names.items():
        socket = new_socket(*kind.triple)
        bound = expect(0, name=case)
        results.append(socket.bind(unix(name)))
        bound.of(results[-1])
        expect(unix(name), name=case, then="name").of(socket.sockname())
    socket, name = new_socket(*kind.triple), unix(b"\0behind")
    bound = expect(0, name="null-behind")
    results.append(socket.bind(memory.put(name + b"\0"), len(name)))
    bound.of(results[-1])
    expect(name, name="null-behind", then="name").of(socket.sockname())
    files.of(procfs.names_here(), *results)
    caller.umask(old)


@behaviour(
    "bind.unix.abstract-in-use", f"{SOURCE_ABSTRACT}; unix(7) EADDRINUSE `automatically disappear`; unix_abstract_hash"
)
@each_kind
def test_abstract_in_use(kind, new_socket, calls, expect, caller):
    """bind to an abstract name fails with EADDRINUSE while a socket of the same type and network namespace has it, until
    the last descriptor of that socket is closed.
    """
    first = new_socket(*kind.triple)
    need(first.bind(unix(b"\0name")))
    for other in UNIX:
        answer = -EADDRINUSE if other is kind else 0
        socket = new_socket(*other.triple)
        expect(answer, type=other).of(socket.bind(unix(b"\0name")))
        need(socket.close())
    for case, name in {"longer": b"\0name\0", "shorter": b"\0nam", "path": b"name"}.items():
        expect(0, name=case).of(new_socket(*kind.triple).bind(unix(name)))
    duplicate = need(calls.syscall("dup", first))
    need(first.close())
    expect(-EADDRINUSE, after="first-close").of(new_socket(*kind.triple).bind(unix(b"\0name")))
    need(calls.close(duplicate))
    second = new_socket(*kind.triple)
    expect(0, after="last-close").of(second.bind(unix(b"\0name")))
    caller.unshare(CLONE_NEWNET)
    expect(0, namespace="other").of(new_socket(*kind.triple).bind(unix(b"\0name")))


@behaviour("bind.unix.autobind", SOURCE_AUTOBIND)
@each_kind
def test_autobind(kind, new_socket, expect):
    """bind with addrlen 2 (autobind) chooses an abstract name of five characters 0-9 and a-f, a different one for each
    socket.
    """
    sockets = [new_socket(*kind.triple) for _ in range(50)]
    bound, form = expect([0] * 50, sockets=50), expect(True, then="form")
    different, files = expect(50, then="different"), expect([], then="files")
    results = [socket.bind(family_word(1)) for socket in sockets]
    bound.of(results, *results)
    names = [socket.sockname().bytes for socket in sockets]
    form.of(all(CHOSEN.fullmatch(name) for name in names), *results)
    different.of(len(set(names)), *results)
    files.of(procfs.names_here(), *results)
    taken = new_socket(*kind.triple)
    expect(-EADDRINUSE, then="taken").of(taken.bind(names[0]))


@behaviour("bind.unix.autobind-by-connect", f"{SOURCE_AUTOBIND} SO_PASSCRED; unix_stream_connect, unix_dgram_connect")
def test_autobind_by_connect(new_socket, expect):
    """connect chooses a name for an unnamed socket with SO_PASSCRED, as autobind does; without SO_PASSCRED the socket
    stays unnamed.
    """
    for kind in UNIX:
        server = new_socket(*kind.triple)
        need(server.bind(unix(b"\0server")))
        if kind is not UNIX_DGRAM:
            need(server.listen(4))
        for passcred in (0, 1):
            socket = new_socket(*kind.triple)
            need(socket.setsockopt(SOL_SOCKET, SO_PASSCRED, passcred))
            need(socket.connect(unix(b"\0server")))
            chosen = expect(bool(passcred), kind=kind, passcred=passcred)
            unnamed = expect(not passcred, kind=kind, passcred=passcred, then="unnamed")
            name = socket.sockname()
            chosen.of(CHOSEN.fullmatch(name.bytes) is not None, name)
            unnamed.of(name.bytes == family_word(1), name)
        need(server.close())
