"""accept(2) at the limit of open files of the whole system, which only a kernel of the caller's own may reach."""

import os
import socket
from errno import ENFILE

from probes.testing import behaviour, need, procfs
from probes.testing.socket_kinds import TCP, UNIX_STREAM

#: arch/x86/entry/syscalls/syscall_32.tbl. No behaviour is about these calls.
WRITE, OPEN = 4, 5
FILE_MAX = "fs.file-max"


@behaviour(
    "listen.accept.system-limit", "accept(2) ENFILE; proc(5) file-max; alloc_empty_file `!capable(CAP_SYS_ADMIN)`"
)
def test_system_limit(own_kernel, prepare, calls, memory, caller, expect):
    """accept and accept4 fail with ENFILE while the system has fs.file-max open files, in a process without CAP_SYS_ADMIN.
    The connection stays queued, and is accepted when the limit permits it.
    """
    gate = calls.gate.quieted()
    before = memory.put(b"%d\n" % procfs.sysctl(FILE_MAX)[0])
    # The count that is compared lags behind by some dozens of files (percpu_counter_read_positive).
    low = memory.put(b"0\n")
    path = memory.put(b"/proc/sys/fs/file-max\0")
    # Opened before, as no file can be opened at the limit. A sysctl is written at the beginning of its file only.
    files = [need(gate.enter(OPEN, path.address, os.O_WRONLY), "open") for _ in range(4)]
    ends = {kind: prepare("pending", kind, flags=socket.SOCK_NONBLOCK) for kind in (TCP, UNIX_STREAM)}
    caller.drop_capability("CAP_SYS_ADMIN")
    for kind, end in ends.items():
        (free,) = procfs.lowest()
        need(gate.enter(WRITE, files.pop(), low.address, low.size), "write")
        for op, words in {"accept": (0, 0), "accept4": (0, 0, 0)}.items():
            expect(-ENFILE, kind=kind, call=op, limit="reached").of(calls.make(op, end.fd, *words))
        need(gate.enter(WRITE, files.pop(), before.address, before.size), "write")
        expect(free, kind=kind, limit="raised").of(calls.accept(end.fd))
