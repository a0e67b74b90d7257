"""Descriptors of the caller that are no sockets, each with the error of an operation of sockets on it."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from errno import EBADF, ENOTSOCK

from probes.entry.calls import Calls
from probes.entry.gate import Result
from probes.testing import need, not_applicable

#: arch/x86/entry/syscalls/syscall_32.tbl. No behaviour is about these calls.
_OPEN, _CLOSE, _MKNOD, _PIPE = 5, 6, 14, 42
_SIGNALFD4, _EVENTFD2, _EPOLL_CREATE1, _INOTIFY_INIT1, _TIMERFD_CREATE = 327, 328, 329, 332, 322
_PERF_EVENT_OPEN, _FANOTIFY_INIT, _MEMFD_CREATE, _BPF, _USERFAULTFD = 336, 338, 356, 357, 374
_IO_URING_SETUP, _OPEN_TREE, _FSOPEN, _PIDFD_OPEN, _MEMFD_SECRET = 425, 428, 430, 434, 447
_S_IFIFO, _AT_FDCWD = 0o010000, -100
#: What fanotify permits without privilege since Linux 5.13.
_FAN_REPORT_FID = 0x200
#: struct perf_event_attr: PERF_TYPE_SOFTWARE, its size, PERF_COUNT_SW_DUMMY; exclude_kernel and exclude_hv at offset 40.
_PERF_ATTR = (struct.pack("<IIQ", 1, 112, 9).ljust(40, b"\0") + struct.pack("<Q", 0x60)).ljust(112, b"\0")
#: union bpf_attr of BPF_MAP_CREATE: an array of one number.
_BPF_ATTR = struct.pack("<4I", 2, 4, 4, 1)


@dataclass(frozen=True)
class _File:
    """Describes a descriptor: the number and words of the call that makes it; bytes are pointed to."""

    number: int
    words: tuple[int | bytes, ...]
    error: int = ENOTSOCK


#: What a kernel may lack, or refuse to a caller: pseudo files, and descriptors of calls that are no part of these documents.
SPECIAL = {
    "dev-zero": _File(_OPEN, (b"/dev/zero\0", 0)),
    "proc-file": _File(_OPEN, (b"/proc/self/status\0", 0)),
    "epoll": _File(_EPOLL_CREATE1, (0,)),
    "eventfd": _File(_EVENTFD2, (0, 0)),
    "signalfd": _File(_SIGNALFD4, (-1, bytes(8), 8, 0)),
    "timerfd": _File(_TIMERFD_CREATE, (1, 0)),
    "inotify": _File(_INOTIFY_INIT1, (0,)),
    "fanotify": _File(_FANOTIFY_INIT, (_FAN_REPORT_FID, 0)),
    "pidfd": _File(_PIDFD_OPEN, (1, 0)),
    "memfd": _File(_MEMFD_CREATE, (b"name\0", 0)),
    "memfd-secret": _File(_MEMFD_SECRET, (0,)),
    "userfaultfd": _File(_USERFAULTFD, (1,)),
    "perf-event": _File(_PERF_EVENT_OPEN, (_PERF_ATTR, 0, -1, -1, 0)),
    "io-uring": _File(_IO_URING_SETUP, (1, bytes(120))),
    "bpf-map": _File(_BPF, (0, _BPF_ATTR, len(_BPF_ATTR))),
    "fsopen": _File(_FSOPEN, (b"tmpfs\0", 0)),
    # A descriptor as of O_PATH.
    "open-tree": _File(_OPEN_TREE, (_AT_FDCWD, b"/\0", 0), EBADF),
}


class OtherFiles:
    """Makes descriptors that are no sockets, by untraced calls."""

    def __init__(self, calls: Calls) -> None:
        """Takes the calls of the test."""
        self._calls, self._gate = calls, calls.gate.quieted()

    def special(self, name: str) -> tuple[int, int]:
        """Returns one of SPECIAL: the descriptor, and the error on it. Not applicable where it cannot be made."""
        file = SPECIAL[name]
        made = self._enter(file.number, *file.words)
        if made < 0:
            not_applicable(f"a descriptor of {name}: {os.strerror(-made)}")
        return made, file.error

    def usual(self, socket: int) -> dict[str, tuple[int, int]]:
        """Returns descriptors that every caller can have, with their errors, by name.

        The lower half of one of them, which is not open, is a socket.
        """
        ends = self._calls.memory.words(0, 0)
        need(self._gate.enter(_PIPE, ends.address), "pipe")
        need(self._enter(_MKNOD, b"fifo\0", _S_IFIFO | 0o600, 0), "mknod")
        read, write = ends.words()
        usual = {
            "minus-one": (-1, EBADF), "upper-half": (0x10000 | socket, EBADF),
            "path": (self._open("/", os.O_PATH), EBADF),
            "file": (self._open("file", os.O_RDWR | os.O_CREAT), ENOTSOCK), "directory": (self._open("/", 0), ENOTSOCK),
            "pipe-read": (read, ENOTSOCK), "pipe-write": (write, ENOTSOCK),
            "fifo": (self._open("fifo", os.O_RDWR), ENOTSOCK),
        }  # fmt: skip
        closed = self._open("file", os.O_RDWR)
        need(self._enter(_CLOSE, closed), "close")
        return usual | {"closed": (closed, EBADF)}

    def _open(self, path: str, flags: int) -> int:
        return need(self._enter(_OPEN, path.encode() + b"\0", flags, 0o600), "open")

    def _enter(self, number: int, *words: int | bytes) -> Result:
        """Makes a call, and returns its result."""
        values = [word if isinstance(word, int) else self._calls.memory.put(word).address for word in words]
        return self._gate.enter(number, *(value & 0xFFFFFFFF for value in values))
