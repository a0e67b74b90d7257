"""Namespaces, ids and capabilities of a sandbox (namespaces(7), user_namespaces(7), capabilities(7))."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterable
from pathlib import Path

from probes.trace import ptrace

_NEWNS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = 0x20000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REMOUNT, _MS_BIND = 1, 2, 4, 8, 0x20, 0x1000
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
CAPABILITIES = {
    "CAP_SETGID": 6, "CAP_SETUID": 7, "CAP_NET_BIND_SERVICE": 10, "CAP_NET_BROADCAST": 11, "CAP_NET_ADMIN": 12,
    "CAP_NET_RAW": 13, "CAP_SYS_CHROOT": 18, "CAP_SYS_PTRACE": 19, "CAP_SYS_ADMIN": 21, "CAP_SYS_NICE": 23,
    "CAP_SYS_RESOURCE": 24,
}  # fmt: skip
_KINDS = ("user", "net", "pid", "mnt", "ipc")
#: Ids that a sandbox with several has: 0 is its own, the others are mapped one to one.
OTHER_IDS = (1000, 1001)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    result = _libc.mount(source.encode(), target.encode(), kind.encode(), flags, data.encode())
    _check(result, f"mount {kind or 'private'} on {target}")


def unshare(flags: int) -> None:
    """unshare(2). Raises OSError."""
    _check(_libc.unshare(flags), f"unshare {flags:#x}")


def links() -> dict[str, str]:
    """The namespaces this process is in, by kind. For the pid namespace: the one its children are born into."""
    return {kind: str(Path(f"/proc/self/ns/{kind}").readlink()) for kind in _KINDS}


def to_leave(isolation: str, user: bool) -> int:
    """The namespaces that a sandbox has of its own, as flags of unshare(2)."""
    if isolation == "none":
        return 0
    flags = _NEWNET | _NEWNS | _NEWIPC
    return flags if isolation == "net" else flags | _NEWPID | (_NEWUSER if user else 0)


def map_own_ids(uid: int, gid: int) -> None:
    """Maps the user and the group that we are outside to 0. Raises OSError."""
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"0 {uid} 1")
    _write("/proc/self/gid_map", f"0 {gid} 1")


def map_ids(pid: int, ids: int) -> None:
    """Maps several user and group ids into the user namespace of a child. Raises OSError: EPERM unless we are root."""
    text = "0 0 1\n" + "".join(f"{other} {other} 1\n" for other in OTHER_IDS[: ids - 1])
    _write(f"/proc/{pid}/uid_map", text)
    _write(f"/proc/{pid}/gid_map", text)


def _write(path: str, text: str) -> None:
    # Not a file object: one that is never closed hides the error of its write.
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    except OSError as error:
        raise OSError(error.errno, f"write {path}: {os.strerror(error.errno or 0)}") from error
    finally:
        os.close(fd)


def furnish(isolation: str, work: Path) -> None:
    """Inside the new namespaces: a /proc that fits, a file system of its own for files, the loopback link up."""
    if isolation != "none":
        _mount("", "/", "", _MS_REC | _MS_PRIVATE)
        if isolation == "full":
            _mount("proc", "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
        _mount("tmpfs", str(work), "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=0755")
        _raise_loopback()
    os.chdir(work)
    os.environ["TMPDIR"] = str(work)


def new_network() -> None:
    """Leaves the network namespace for a new one that has nothing but the loopback link, which is up. Raises OSError."""
    unshare(_NEWNET)
    _raise_loopback()


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        fcntl.ioctl(probe, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP))


def make_read_only(folder: str) -> None:
    """Makes a folder a read-only file system with what is in it. Raises OSError."""
    _mount(folder, folder, "", _MS_BIND)
    _mount("", folder, "", _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID | _MS_NODEV)


def prove_left(before: dict[str, str], isolation: str, user: bool) -> None:
    """Raises PermissionError unless this process is out of the namespaces it must have left."""
    wanted = {"full": {"net", "pid", "mnt", "ipc"}, "net": {"net", "mnt", "ipc"}, "none": set()}[isolation]
    if isolation == "full" and user:
        wanted.add("user")
    now = links()
    shared = sorted(kind for kind in wanted if before[kind] == now[kind])
    if shared:
        raise PermissionError(f"still in the caller's namespaces: {' '.join(shared)}")


def set_sysctl(name: str, value: object) -> None:
    """Writes a sysctl of this process's namespaces: net.ipv4.ip_unprivileged_port_start. Raises OSError."""
    _write("/proc/sys/" + name.replace(".", "/"), f"{value}\n")


_CAPSET_VERSION = 0x20080522


def keep_capabilities(names: Iterable[str]) -> None:
    """Gives up every capability but these (capset(2)). Raises OSError: EPERM for one that it does not have."""
    mask = sum(1 << CAPABILITIES[name] for name in names)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    header = ctypes.create_string_buffer(struct.pack("<Ii", _CAPSET_VERSION, 0))
    data = ctypes.create_string_buffer(struct.pack("<6I", low, low, 0, high, high, 0))
    _check(_libc.capset(header, data), "capset")


def drop_capability(name: str) -> None:
    """Gives up one capability. Raises OSError."""
    text = Path("/proc/self/status").read_text()
    mask = int(text.partition("\nCapEff:")[2].split(maxsplit=1)[0], 16)
    keep_capabilities(other for other, bit in CAPABILITIES.items() if mask >> bit & 1 and other != name)


def become(uid: int) -> None:
    """Changes to another mapped user and group, which gives up every capability. Raises OSError."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    # The change of ids has forgotten it.
    ptrace.prctl(ptrace.PR_SET_PDEATHSIG, 9)
