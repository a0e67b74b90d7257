"""Set namespaces, ids, capabilities and sysctls (namespaces(7), user_namespaces(7), capabilities(7))."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from probes.trace import ptrace

_NEWNS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = 0x20000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REMOUNT, _MS_BIND = 1, 2, 4, 8, 0x20, 0x1000
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000
SIOCSIFFLAGS, _SIOCGIFFLAGS, _IFF_UP = 0x8914, 0x8913, 1
#: The struct ifreq with which SIOCSIFFLAGS brings the loopback link up.
LOOPBACK_UP = struct.pack("16sH14x", b"lo", _IFF_UP)
CAPABILITIES = {
    "CAP_SETGID": 6, "CAP_SETUID": 7, "CAP_NET_BIND_SERVICE": 10, "CAP_NET_BROADCAST": 11, "CAP_NET_ADMIN": 12,
    "CAP_NET_RAW": 13, "CAP_SYS_CHROOT": 18, "CAP_SYS_PTRACE": 19, "CAP_SYS_ADMIN": 21, "CAP_SYS_NICE": 23,
    "CAP_SYS_RESOURCE": 24,
}  # fmt: skip
_TYPES = ("user", "net", "pid", "mnt", "ipc")
#: Words for a person, where they are not the types.
_NAMES = {"net": "network", "mnt": "mount"}
#: User and group ids of a sandbox with several: besides 0, these are mapped one to one.
OTHER_IDS = (1000, 1001)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _mount(source: str, target: str, filesystem: str, flags: int, data: str = "") -> None:
    result = _libc.mount(source.encode(), target.encode(), filesystem.encode(), flags, data.encode())
    _check(result, f"mount {filesystem or 'private'} on {target}")


def unshare(flags: int) -> None:
    """Leave the namespaces of these flags (unshare, section 2) for new ones. Raises OSError."""
    _check(_libc.unshare(flags), f"unshare {flags:#x}")


def enter(pid: int, flags: int) -> None:
    """Enter the namespaces of a process that these flags name (setns(2)). Raises OSError."""
    process = os.pidfd_open(pid)
    try:
        _check(_libc.setns(process, flags), f"setns {flags:#x}")
    finally:
        os.close(process)


def refused(user: bool) -> Iterator[tuple[str, int]]:
    """Yield the types of namespaces that this process cannot leave, with the errors; it tries each in a child.

    `user` tries the others in a user namespace of the child's own.
    """
    flags = dict(zip(_TYPES, (_NEWUSER, _NEWNET, _NEWPID, _NEWNS, _NEWIPC), strict=True))
    for name in _TYPES if user else _TYPES[1:]:
        child = os.fork()
        if not child:
            result = _libc.unshare(flags[name] | (_NEWUSER if user else 0))
            os._exit(ctypes.get_errno() if result else 0)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status):
            yield _NAMES.get(name, name), os.WEXITSTATUS(status)


def current() -> dict[str, str]:
    """Return the namespaces of this process by type, as the links of /proc/self/ns name them."""
    return {type: os.readlink(f"/proc/self/ns/{type}") for type in _TYPES}  # noqa: PTH115 (a Path would touch many pages)


def needs_user(isolation: str) -> bool:
    """Return True if a sandbox of this isolation has a user namespace of its own.

    With "net" it has one where this process lacks the capability that the others need.
    """
    return isolation == "full" or (isolation == "net" and not has_capabilities("CAP_SYS_ADMIN", "CAP_NET_ADMIN"))


def unshare_flags(isolation: str, user: bool) -> int:
    """Return the flags of unshare(2) for a sandbox. `isolation` is that of SandboxSpec; `user` adds a user namespace."""
    if isolation == "none":
        return 0
    flags = _NEWNET | _NEWNS | _NEWIPC | (_NEWUSER if user else 0)
    return flags if isolation == "net" else flags | _NEWPID


def has_other_ids() -> bool:
    """Return True if this process, or a child of it, can change to OTHER_IDS, or map them in a user namespace."""
    ids = {0, *OTHER_IDS}
    mapped = all(ids <= _mapped(path, ids) for path in ("/proc/self/uid_map", "/proc/self/gid_map"))
    return mapped and has_capabilities("CAP_SETUID", "CAP_SETGID")


def _mapped(path: str, ids: Iterable[int]) -> set[int]:
    extents = [tuple(map(int, line.split())) for line in Path(path).read_text().splitlines()]
    return {id for id in ids if any(first <= id < first + count for first, _, count in extents)}


def _effective() -> int:
    """Return the effective capabilities of this process as a mask."""
    return _capabilities("CapEff")


def _capabilities(line: str) -> int:
    text = Path("/proc/self/status").read_text()
    return int(text.partition(f"\n{line}:")[2].split(maxsplit=1)[0], 16)


def permitted() -> list[str]:
    """Return those of CAPABILITIES that this process is permitted; a container's root lacks some."""
    mask = _capabilities("CapPrm")
    return [name for name, bit in CAPABILITIES.items() if mask >> bit & 1]


def has_capabilities(*names: str) -> bool:
    """Return True if this process has all of these capabilities in effect."""
    return all(_effective() >> CAPABILITIES[name] & 1 for name in names)


def map_own_ids(uid: int, gid: int) -> None:
    """Map the user and the group id that this process has outside its user namespace to 0. Raises OSError."""
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"0 {uid} 1")
    _write("/proc/self/gid_map", f"0 {gid} 1")


def own_network(uid: int, gid: int) -> None:
    """Move this process to a new network namespace, whose loopback link is up, under the ids that it has.

    Without the capabilities that this needs, the process gets a user namespace too. Raises OSError.
    """
    if needs_user("net"):
        unshare(_NEWUSER | _NEWNET)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{uid} {uid} 1")
        _write("/proc/self/gid_map", f"{gid} {gid} 1")
        bring_loopback_up()
    else:
        new_network()


def map_ids(pid: int, ids: int) -> None:
    """Map 0 and the first of OTHER_IDS, `ids` in all, in the user namespace of a child.

    Raises OSError: EPERM unless this process is root.
    """
    text = "0 0 1\n" + "".join(f"{other} {other} 1\n" for other in OTHER_IDS[: ids - 1])
    _write(f"/proc/{pid}/uid_map", text)
    _write(f"/proc/{pid}/gid_map", text)


def _write(path: str, text: str) -> None:
    # os.write reports the error of the kernel at once; a file object would report it at close, or never.
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    except OSError as error:
        raise OSError(error.errno, f"write {path}: {os.strerror(error.errno or 0)}") from error
    finally:
        os.close(fd)


def set_up(isolation: str, work: Path) -> None:
    """Mount /proc and a tmpfs on the directory `work`, bring the loopback link up, and change to `work`.

    Raises OSError.
    """
    if isolation != "none":
        if _make_mounts_private(needed=isolation == "full"):
            if isolation == "full":
                _mount("proc", "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
            _mount("tmpfs", str(work), "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=0755")
        bring_loopback_up()
    os.chdir(work)
    os.environ["TMPDIR"] = str(work)


def _make_mounts_private(needed: bool) -> bool:
    """Keep later mounts from the caller's mount namespace, and return True. Raises OSError.

    Returns False, if it is not needed, in a chroot whose root is not a mount point: its mount may be shared, and cannot
    be named there.
    """
    try:
        _mount("", "/", "", _MS_REC | _MS_PRIVATE)
    except OSError as error:
        if needed or error.errno != errno.EINVAL:
            raise
        return False
    return True


def new_network() -> None:
    """Move this process to a new network namespace with nothing but the loopback link, and bring it up. Raises OSError."""
    unshare(_NEWNET)
    bring_loopback_up()


def enter_network(descriptor: int) -> None:
    """Move this process to the network namespace of a descriptor (setns(2)). Raises OSError."""
    _check(_libc.setns(descriptor, _NEWNET), "setns")


def bring_loopback_up() -> None:
    """Set IFF_UP on the loopback link of this process's network namespace. Raises OSError."""
    _set_flags(LOOPBACK_UP)


def bring_up(link: str) -> None:
    """Set IFF_UP on a link of this process's network namespace. Raises OSError."""
    _set_flags(struct.pack("16sH14x", link.encode(), _IFF_UP))


def _set_flags(request: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, request)


def make_read_only(directory: str) -> None:
    """Make a directory read-only by a bind mount on itself. Raises OSError."""
    _mount(directory, directory, "", _MS_BIND)
    _mount("", directory, "", _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID | _MS_NODEV)


def verify_left(before: dict[str, str], isolation: str, user: bool) -> None:
    """Compare the namespaces of the caller, `before`, with those of this process.

    Raises PermissionError if the process is still in one that `isolation` and `user` make it leave.
    """
    types = {"full": {"net", "pid", "mnt", "ipc"}, "net": {"net", "mnt", "ipc"}, "none": set()}[isolation]
    if user:
        types.add("user")
    now = current()
    shared = sorted(type for type in types if before[type] == now[type])
    if shared:
        raise PermissionError(f"still in the caller's namespaces: {' '.join(shared)}")


_CAPSET_VERSION = 0x20080522


def keep_capabilities(names: Iterable[str]) -> None:
    """Drop every capability but these, named as in CAPABILITIES (capset(2)).

    Raises OSError: EPERM for one that this process does not have.
    """
    mask = sum(1 << CAPABILITIES[name] for name in names)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    header = ctypes.create_string_buffer(struct.pack("<Ii", _CAPSET_VERSION, 0))
    data = ctypes.create_string_buffer(struct.pack("<6I", low, low, 0, high, high, 0))
    _check(_libc.capset(header, data), "capset")


def drop_capability(name: str) -> None:
    """Drop one capability. Raises OSError."""
    keep_capabilities(capabilities_without(name))


def capabilities_without(name: str) -> list[str]:
    """Return the effective capabilities of this process without one."""
    mask = _effective()
    return [other for other, bit in CAPABILITIES.items() if mask >> bit & 1 and other != name]


def become(uid: int) -> None:
    """Change to another mapped user and group id, which drops every capability. Raises OSError."""
    parent = os.getppid()
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    # A change of the effective ids clears PDEATHSIG.
    ptrace.prctl(ptrace.PR_SET_PDEATHSIG, 9)
    if os.getppid() != parent:
        os._exit(0)  # The parent ended in between. (In a pid namespace its id is always 0, and init ends this process.)
