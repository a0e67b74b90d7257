"""Pathnames of AF_UNIX sockets: the files that bind makes, and the paths that it refuses."""

import os
import stat
from errno import EACCES, EADDRINUSE, ECONNREFUSED, EINVAL, ELOOP, ENOENT, ENOTDIR, EROFS
from pathlib import Path

import pytest

from probes.entry.calls import Socket
from probes.sandbox import namespaces
from probes.testing import behaviour, need
from probes.testing.socket_kinds import UNIX, UNIX_SEQPACKET, UNIX_STREAM
from tests.bind.bind_forms import family_word, unix

SOURCE = "bind(2) ERRORS; unix(7) Pathname sockets; unix_bind, unix_bind_bsd (unix_mknod before Linux 5.14)"
#: sizeof(sun_path).
ROOM = 108
#: path_resolution(7): as many symbolic links are followed (include/linux/namei.h MAXSYMLINKS).
LINKS = 40
#: Links that are followed whatever happens beside: a walk that meets a change of the file system is made again, up to three
#: times, and does not count from 0 again (filename_parentat, path_init).
SURE_LINKS = LINKS // 3

pytestmark = pytest.mark.usefixtures("shared_files")
each_kind = pytest.mark.parametrize("kind", UNIX, ids=str)


@behaviour("bind.unix.path", f"{SOURCE}; unix(7) `offsetof(struct sockaddr_un, sun_path) + strlen(sun_path) + 1`")
@each_kind
def test_path(kind, new_socket, expect):
    """bind makes a file of type socket at the path, and getsockname returns the path up to its NUL, in as many bytes as
    that takes. Bytes after the NUL are ignored; a missing NUL is added.
    """
    Path("folder").mkdir()
    here = str(Path.cwd()).encode()
    names = {
        "relative": b"name", "folder": b"folder/name", "dots": b"./folder/../dots", "slashes": b"folder//twice",
        "absolute": here + b"/absolute", "bytes": b"\xff\xfe \n", "one": b"1",
    }  # fmt: skip
    for case, name in names.items():
        for ending, tail in {"null": b"\0", "none": b"", "more": b"\0more\0"}.items():
            socket = new_socket(*kind.triple)
            made = expect([0, True], name=case, ending=ending)
            result = socket.bind(unix(name + tail))
            made.of([result, is_socket(name)], result)
            same = expect(True, name=case, ending=ending, then="name")
            sockname = socket.sockname()
            same.of(sockname.bytes == unix(name + b"\0"), sockname)
            need(socket.close())
            Path(os.fsdecode(name)).unlink()


def is_socket(name: bytes) -> bool:
    """Returns True if there is a file of type socket at a path."""
    return os.path.lexists(name) and stat.S_ISSOCK(os.lstat(name).st_mode)


@behaviour("bind.unix.longest-path", f"{SOURCE}; unix(7) BUGS; unix_validate_addr, unix_mkname_bsd")
@each_kind
def test_longest_path(kind, new_socket, calls, memory, expect):
    """bind accepts a path of 108 bytes, which fills sun_path; getsockname returns it with a NUL, one byte longer than
    the structure. A longer path fails with EINVAL.
    """
    for length in (1, 106, 107, 108):
        name = b"n" * length
        socket = new_socket(*kind.triple)
        bound, file = expect(0, length=length), expect(True, length=length, then="file")
        result = socket.bind(unix(name))
        bound.of(result)
        file.of(is_socket(name), result)
        expect(unix(name + b"\0"), length=length, then="name").of(socket.sockname())
    socket = new_socket(*kind.triple)
    for length in (109, 120, 126):
        expect(-EINVAL, length=length).of(socket.bind(unix(b"n" * length)))
        expect(-EINVAL, length=length, null="within").of(socket.bind(unix(b"short".ljust(length, b"\0"))))
    # A buffer of sizeof(struct sockaddr_un) has no room for that NUL: the value-result length is larger.
    socket, name = new_socket(*kind.triple), b"m" * ROOM
    need(socket.bind(unix(name)))
    room, length = memory.guarded(110), memory.words(110)
    check = expect([111, unix(name)], buffer=110)
    result = calls.make("getsockname", socket, room, length)
    check.of([length.words()[0], room.read()], result)


def make_obstacles() -> dict[str, tuple[str, int]]:
    """Makes files of every type in the current directory. Returns {case: (path, errno of bind)}."""
    Path("folder").mkdir()
    Path("file").touch()
    Path("dangling").symlink_to("nowhere")
    Path("to-folder").symlink_to("folder")
    Path("to-file").symlink_to("file")
    Path("itself").symlink_to("itself")
    os.mkfifo("fifo")
    for number in range(LINKS + 2):
        Path(f"link{number}").symlink_to(f"link{number - 1}" if number else "folder")
    return {
        "file": ("file", EADDRINUSE), "folder": ("folder", EADDRINUSE), "fifo": ("fifo", EADDRINUSE),
        "dangling-link": ("dangling", EADDRINUSE), "link-to-folder": ("to-folder", EADDRINUSE),
        "link-to-file": ("to-file", EADDRINUSE), "link-to-itself": ("itself", EADDRINUSE),
        "dot": (".", EADDRINUSE), "dot-dot": ("..", EADDRINUSE), "root": ("/", EADDRINUSE),
        "folder-slash": ("folder/", EADDRINUSE), "slash": ("name/", ENOENT),
        "missing-folder": ("missing/name", ENOENT), "missing-folders": ("missing/too/name", ENOENT),
        "under-dangling-link": ("dangling/name", ENOENT), "under-file": ("file/name", ENOTDIR),
        "under-link-to-file": ("to-file/name", ENOTDIR), "under-fifo": ("fifo/name", ENOTDIR),
        "under-link-to-itself": ("itself/name", ELOOP), "under-too-many-links": (f"link{LINKS}/name", ELOOP),
    }  # fmt: skip


@behaviour("bind.unix.path-refused", f"{SOURCE}; path_resolution(7); kern_path_create")
@each_kind
def test_path_refused(kind, new_socket, expect):
    """bind fails with EADDRINUSE if a file of any type is at the path, also a dangling symbolic link; with ENOENT if a
    directory of the path is missing, ENOTDIR if it is no directory, ELOOP after more than 40 symbolic links. The socket
    stays unnamed.
    """
    socket = new_socket(*kind.triple)
    for case, (path, error) in make_obstacles().items():
        expect(-error, path=case).of(socket.bind(unix(path.encode() + b"\0")))
    expect(family_word(1), afterwards="name").of(socket.sockname())
    for case, path in {"under-link": "to-folder/name", "under-13-links": f"link{SURE_LINKS - 1}/other"}.items():
        fresh = new_socket(*kind.triple)
        expect(0, path=case).of(fresh.bind(unix(path.encode())))


@behaviour("bind.unix.path-in-use", "unix(7) EADDRINUSE; bind(2) EADDRINUSE; unix_bind_bsd `-EEXIST ? -EADDRINUSE`")
def test_path_in_use(new_socket, expect):
    """bind to a path fails with EADDRINUSE until the file is unlinked, also after close, for every type of socket."""
    for state in ("open", "closed"):
        for first in UNIX:
            socket = new_socket(*first.triple)
            need(socket.bind(unix(b"name")))
            if state == "closed":
                need(socket.close())
            for second in UNIX:
                in_use = expect(-EADDRINUSE, first=first, state=state, second=second)
                in_use.of(new_socket(*second.triple).bind(unix(b"name")))
            Path("name").unlink()
            fresh = new_socket(*first.triple)
            expect(0, first=first, state=state, then="unlinked").of(fresh.bind(unix(b"name")))
            Path("name").unlink()


@behaviour("bind.unix.read-only", "bind(2) EROFS; kern_path_create mnt_want_write")
@each_kind
def test_read_only(kind, new_socket, expect):
    """bind to a new path on a read-only file system fails with EROFS, to an existing file there with EADDRINUSE."""
    Path("mounted").mkdir()
    Path("mounted/file").touch()
    namespaces.make_read_only("mounted")
    socket = new_socket(*kind.triple)
    expect(-EROFS, path="free").of(socket.bind(unix(b"mounted/name")))
    expect(-EADDRINUSE, path="file").of(socket.bind(unix(b"mounted/file")))
    expect(-ENOENT, path="missing-folder").of(socket.bind(unix(b"mounted/missing/name")))
    expect(0, path="elsewhere").of(socket.bind(unix(b"name")))


@behaviour(
    "bind.unix.mode", "unix(7) Pathname socket ownership and permissions; umask(2); unix_bind_bsd `~current_umask()`"
)
@each_kind
def test_mode(kind, new_socket, expect, caller):
    """bind makes the file with mode 0777 less the umask, and with the effective user and group of the process."""
    for mask in (0, 0o022, 0o077, 0o777, 0o111):
        old = caller.umask(mask)
        socket = new_socket(*kind.triple)
        mode = oct(stat.S_IFSOCK | 0o777 & ~mask)
        file = expect([mode, os.geteuid(), os.getegid(), 1], umask=f"{mask:03o}")
        result = socket.bind(unix(b"name"))
        need(result)
        caller.umask(old)
        found = Path("name").lstat()
        file.of([oct(found.st_mode), found.st_uid, found.st_gid, found.st_nlink], result)
        Path("name").unlink()


@behaviour("bind.unix.mode-of-descriptor", "unix_bind_bsd `SOCK_INODE(sk->sk_socket)->i_mode`; fchmod(2)")
@each_kind
def test_mode_of_descriptor(kind, new_socket, expect, caller):
    """bind makes the file with the mode that fchmod has set on the socket before, less the umask."""
    for mode in (0o600, 0o000, 0o755):
        socket = new_socket(*kind.triple)
        lent = caller.lend(int(socket))
        os.fchmod(lent, mode)
        os.close(lent)
        old = caller.umask(0)
        file = expect(oct(stat.S_IFSOCK | mode), mode=f"{mode:03o}")
        result = socket.bind(unix(b"name"))
        need(result)
        caller.umask(old)
        file.of(oct(Path("name").lstat().st_mode), result)
        Path("name").unlink()


@behaviour("bind.unix.permission", "bind(2) EACCES; unix(7) `write and search (execute) permission on the directory`")
@each_kind
def test_permission(kind, unprivileged, new_socket, expect):
    """bind fails with EACCES without permission to search every directory of the path and to write into the last one;
    it needs no permission to read them.
    """
    answers = {
        "rwx": (0o700, 0), "-wx": (0o300, 0), "r-x": (0o500, -EACCES), "rw-": (0o600, -EACCES),
        "--x": (0o100, -EACCES), "---": (0o000, -EACCES),
    }  # fmt: skip
    for case, (mode, answer) in answers.items():
        directory = Path(f"last{case}")
        directory.mkdir()
        directory.chmod(mode)
        expect(answer, last=case).of(new_socket(*kind.triple).bind(unix(f"{directory}/name".encode())))
    for case, mode in {"rwx": 0o700, "--x": 0o100, "rw-": 0o600, "---": 0}.items():
        directory = Path(f"first{case}")
        (directory / "last").mkdir(parents=True)
        directory.chmod(mode)
        search = expect(0 if "x" in case else -EACCES, first=case)
        search.of(new_socket(*kind.triple).bind(unix(f"{directory}/last/name".encode())))


@behaviour("bind.unix.unlinked", "unix(7) NOTES `can be unlinked at any time`; unix_find_bsd")
@pytest.mark.parametrize("kind", [UNIX_STREAM, UNIX_SEQPACKET], ids=str)
def test_unlinked(kind, new_socket, calls, expect):
    """A listening socket whose file is unlinked keeps its name and connections, but connect to the path fails with
    ENOENT; connect to the file of a closed socket fails with ECONNREFUSED.
    """
    server, early, late = (new_socket(*kind.triple) for _ in range(3))
    need(server.bind(unix(b"name")))
    need(server.listen(2))
    need(early.connect(unix(b"name")))
    Path("name").unlink()
    expect(unix(b"name\0"), step="name").of(server.sockname())
    expect(-ENOENT, step="connect").of(late.connect(unix(b"name")))
    accepted = Socket(calls, need(server.accept()))
    expect(2, step="send").of(calls.make("send", early, calls.pointer(b"ab"), 2, 0))
    expect(2, step="receive").of(calls.make("recv", accepted, calls.memory.alloc(8), 8, 0))
    expect(0, step="bind-again").of(late.bind(unix(b"name")))
    need(late.close())
    expect(-ECONNREFUSED, step="closed").of(new_socket(*kind.triple).connect(unix(b"name")))


@behaviour("bind.unix.renamed", "unix(7) `socket file`; unix_find_bsd finds the inode, unix_getname the name")
def test_renamed(new_socket, expect):
    """connect finds a socket by its file, also after rename and through a hard link; getsockname returns the path that
    was bound.
    """
    server = new_socket(*UNIX_STREAM.triple)
    need(server.bind(unix(b"first")))
    need(server.listen(4))
    os.link("first", "second")
    Path("first").rename("third")
    for name, answer in {"first": -ENOENT, "second": 0, "third": 0}.items():
        expect(answer, name=name).of(new_socket(*UNIX_STREAM.triple).connect(unix(name.encode())))
    expect(unix(b"first\0"), name="own").of(server.sockname())
