"""connect to AF_UNIX names: paths, abstract names, types of sockets, permission, and the peer's credentials."""

import os
import socket
import struct
from errno import EACCES, ECONNREFUSED, EINVAL, ELOOP, ENOENT, ENOTDIR, EPROTOTYPE

import pytest

from probes.abi.names import value
from probes.abi.operations import OPERATIONS
from probes.sandbox import namespaces
from probes.testing import behaviour, need, procfs
from probes.testing.socket_kinds import UNIX, UNIX_SEQPACKET, UNIX_STREAM

SOURCE = "connect(2); unix(7) Pathname sockets; unix_find_bsd, unix_find_abstract, unix_validate_addr"
SOL, PEERCRED = socket.SOL_SOCKET, value("SO_PEERCRED")
STREAMS = (UNIX_STREAM, UNIX_SEQPACKET)
#: path_resolution(7): as many symbolic links are followed (include/linux/namei.h MAXSYMLINKS).
LINKS = 40


def unix(name: bytes) -> bytes:
    """Packs a struct sockaddr_un, as long as its name."""
    return struct.pack("<H", socket.AF_UNIX) + name


def server(prepare, kind, name):
    """Makes a socket at a name; it listens if its kind does."""
    end = prepare("unbound", kind)
    need(end.calls.bind(end.fd, unix(name)), "bind")
    if kind in STREAMS:
        need(end.calls.listen(end.fd, 8), "listen")
    return end


@behaviour("connect.unix.path", f"{SOURCE}; path_resolution(7); unix(7) BUGS")
def test_path(prepare, calls, files, expect):
    """connect finds a socket by its path, which may be relative or not, end with its NUL, without it or before the length,
    and lead through directories and symbolic links; the peer has the name that it was bound to.
    """
    files.mkdir("directory")
    files.symlink("directory/name", "link")
    files.symlink("link", "link-to-link")
    for kind in UNIX:
        end = server(prepare, kind, b"directory/name\0")
        for case, path in {
            "null": b"directory/name\0", "no-null": b"directory/name", "more": b"directory/name\0more",
            "dots": b"./directory/../directory//name", "link": b"link", "links": b"link-to-link\0",
        }.items():  # fmt: skip
            client = end.new()
            expect(0, kind=kind, path=case).of(calls.connect(client, unix(path)))
            expect(unix(b"directory/name\0"), kind=kind, path=case, read="peer").of(calls.name("getpeername", client))
        end.close()
        files.unlink("directory/name")


@behaviour("connect.unix.path-refused", f"{SOURCE} ECONNREFUSED, ENOENT; connect(2) ECONNREFUSED; path_resolution(7)")
def test_path_refused(prepare, calls, files, expect):
    """connect to a path fails with ENOENT if nothing is there, also behind a symbolic link or after unlink, with ENOTDIR and
    ELOOP as of every path, and with ECONNREFUSED if what is there is no socket, no socket has it any more, or does not
    listen.
    """
    files.mkdir("directory")
    files.create("file")
    files.symlink("nowhere", "dangling")
    files.symlink("itself", "itself")
    for kind in STREAMS:
        end = server(prepare, kind, b"gone\0")
        end.close()
        other = server(prepare, kind, b"unlinked\0")
        files.unlink("unlinked")
        bound = prepare("unbound", kind)
        need(bound.calls.bind(bound.fd, unix(b"bound\0")), "bind")
        targets = {
            "missing": ENOENT, "dangling": ENOENT, "unlinked": ENOENT, "missing/name": ENOENT, "dangling/name": ENOENT,
            "file/name": ENOTDIR, "itself": ELOOP, "file": ECONNREFUSED, "directory": ECONNREFUSED, "gone": ECONNREFUSED,
            "bound": ECONNREFUSED, "gone/": ENOTDIR,
        }  # fmt: skip
        for path, error in targets.items():
            client = bound.new()
            expect(-error, kind=kind, path=path).of(calls.connect(client, unix(path.encode() + b"\0")))
        other.close()
        bound.close()
        for path in ("gone", "bound"):
            files.unlink(path)


@behaviour("connect.unix.abstract", "unix(7) Abstract sockets, ECONNREFUSED; unix_find_abstract")
def test_abstract(prepare, calls, expect):
    """An abstract name is compared with all its bytes: another one, longer, shorter, or of a socket of another type, is
    refused with ECONNREFUSED, as is one whose socket does not listen.
    """
    for kind in UNIX:
        end = server(prepare, kind, b"\0name")
        for case, text in {"same": b"\0name", "longer": b"\0name\0", "shorter": b"\0nam", "path": b"name"}.items():
            error = 0 if case == "same" else ENOENT if case == "path" else ECONNREFUSED
            expect(-error, kind=kind, name=case).of(calls.connect(end.new(), unix(text)))
        for other in UNIX:
            if other is not kind:
                client = prepare("unbound", other)
                expect(-ECONNREFUSED, kind=kind, client=other).of(calls.connect(client.fd, unix(b"\0name")))
                client.close()
        end.close()
    for kind in STREAMS:
        end = prepare("bound", kind)
        expect(-ECONNREFUSED, kind=kind, name="bound").of(calls.connect(end.new(), end.server))
        end.close()


@behaviour("connect.unix.prototype", "connect(2), unix(7) EPROTOTYPE; unix_find_bsd `sk->sk_type != type`")
def test_prototype(prepare, calls, expect):
    """connect to the path of a socket of another type fails with EPROTOTYPE, for every pair of types."""
    for kind in UNIX:
        end = server(prepare, kind, kind.name.encode() + b"\0")
        for other in UNIX:
            client = prepare("unbound", other)
            check = expect(0 if other is kind else -EPROTOTYPE, server=kind, client=other)
            check.of(calls.connect(client.fd, unix(kind.name.encode() + b"\0")))
            client.close()
        end.close()


@behaviour("connect.unix.length", f"{SOURCE} EINVAL; unix(7) Address format")
def test_length(prepare, calls, memory, expect):
    """connect over AF_UNIX takes a length from 3 to 110 bytes, and fails with EINVAL with any other, and if the address is
    not of AF_UNIX.
    """
    for kind in UNIX:
        end = prepare("unbound", kind)
        path = memory.put(unix(b"n" * 140))
        for length in (-1, 0, 1, 2, 3, 110, 111, 128, 129):
            expected = -ENOENT if 3 <= length <= 110 else -EINVAL
            expect(expected, kind=kind, length=length).of(calls.connect(end.fd, path, length))
        for family in (socket.AF_INET, 0xFFFF):
            address = struct.pack("<H", family) + b"name\0"
            expect(-EINVAL, kind=kind, family=int(family)).of(calls.connect(end.fd, address))
        end.close()


@behaviour("connect.unix.permission", "connect(2) EACCES; unix(7) `write permission on that socket`; unix_find_bsd")
def test_permission(prepare, calls, caller, files, expect):
    """connect to a path fails with EACCES without permission to write the socket's file, or to search a directory of the
    path; it needs no permission to read or execute the file.
    """
    for kind in UNIX:
        text = kind.name
        files.mkdir(text)
        files.mkdir(f"{text}/closed")
        for path in ("free", "write", "read", "closed/inside"):
            server(prepare, kind, f"{text}/{path}\0".encode())
        for path, mode in (
            ("free", 0o777),
            ("write", 0o222),
            ("read", 0o555),
            ("closed/inside", 0o777),
            ("closed", 0o666),
        ):
            files.chmod(f"{text}/{path}", mode)
    caller.keep_capabilities(())
    for kind in UNIX:
        for path, expected in (("free", 0), ("write", 0), ("read", -EACCES), ("closed/inside", -EACCES)):
            client = prepare("unbound", kind)
            check = expect(expected, kind=kind, path=path)
            check.of(calls.connect(client.fd, unix(f"{kind.name}/{path}\0".encode())))
            client.close()


@behaviour("connect.unix.owner", "unix(7) Pathname socket ownership `chown`; chown(2); unix_find_bsd `MAY_WRITE`")
@pytest.mark.sandbox(ids=2)
def test_owner(prepare, calls, caller, files, expect):
    """chown gives a socket's file another owner and another group: connect needs their permission to write then."""
    other = namespaces.OTHER_IDS[0]
    owners = {"kept": (0, 0, -EACCES), "owner": (other, 0, 0), "group": (0, other, 0)}
    for kind in UNIX:
        for case, (uid, gid, _) in owners.items():
            path = f"{kind.name}-{case}"
            server(prepare, kind, f"{path}\0".encode())
            files.chmod(path, 0o220)
            files.chown(path, uid, gid)
    files.chmod(".", 0o711)
    caller.become(other)
    for kind in UNIX:
        for case, (_, _, expected) in owners.items():
            client = prepare("unbound", kind)
            check = expect(expected, kind=kind, changed=case)
            check.of(calls.connect(client.fd, unix(f"{kind.name}-{case}\0".encode())))
            client.close()


@behaviour("connect.unix.credentials", "unix(7) SO_PEERCRED; socket(7) SO_PEERCRED; init_peercred, copy_peercred")
@pytest.mark.sandbox(ids=2)
def test_credentials(prepare, calls, caller, expect):
    """SO_PEERCRED of an accepted AF_UNIX socket has the credentials of its peer when that connected, of the connected socket
    those of the listening one when it began to listen: a later change of user does not change them.
    """
    before = struct.pack("<3i", caller.pid, os.geteuid(), os.getegid())
    after = struct.pack("<3i", caller.pid, namespaces.OTHER_IDS[0], namespaces.OTHER_IDS[0])
    ends = {kind: prepare("listening", kind) for kind in STREAMS}
    early = {kind: end.connect(end.new(), end.server) for kind, end in ends.items()}
    caller.become(namespaces.OTHER_IDS[0])
    for kind, end in ends.items():
        late = end.connect(end.new(), end.server)
        accepted = [end.keep(end.calls.accept(end.fd), "accept") for _ in range(2)]
        for case, fd, expected in (
            ("connected", early[kind], before), ("connected-later", late, before), ("accepted", accepted[0], before),
            ("accepted-later", accepted[1], after),
        ):  # fmt: skip
            expect(expected, kind=kind, socket=case).of(calls.getsockopt(fd, SOL, PEERCRED, 12))


@behaviour("connect.unix.two-callers", "connect(2); listen(2) backlog; unix_wait_for_peer, unix_accept `peer_wait`")
def test_two_callers(prepare, calls, children, expect):
    """Of two processes that are blocked in connect, because the queue is full, each is connected when there is room."""
    connect = OPERATIONS["connect"].direct
    for kind in STREAMS:
        end = prepare("backlog-full", kind)
        address = calls.memory.put(end.server)
        blocked = [children.blocked((connect, end.new(), address, address.size)) for _ in range(2)]
        (free,) = procfs.lowest()
        check = expect([free, 0, 0], kind=kind)
        result = calls.accept(end.fd)
        end.keep(result, "accept")
        end.keep(end.calls.accept(end.fd), "accept")
        ended = [os.waitstatus_to_exitcode(children.ended(pid)) for pid in blocked]
        check.of([int(result), *ended], result)
        end.close()
