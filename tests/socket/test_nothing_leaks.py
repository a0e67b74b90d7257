"""RLIMIT_NOFILE and refused calls: socket(2) fails, and leaves no descriptor and no socket."""

from errno import EAFNOSUPPORT, EINVAL, EMFILE, EPROTONOSUPPORT, ESOCKTNOSUPPORT
from socket import AF_INET, AF_UNIX

import pytest

from probes.entry.sweep import Sweep
from probes.testing import behaviour, need, procfs
from probes.testing.socket_kinds import NETLINK, PACKET, RAW6, TCP, TCP6, UDP, UDP6, UNIX, UNIX_STREAM
from probes.testing.socket_kinds import RAW as RAW_KIND
from probes.testing.socket_model import DGRAM, FAMILY_MAX, RAW, RDM, STREAM, TIMES, TYPE_MAX

SOURCE_FAILURE = "socket(2) ERRORS; sock_release on every error path of __sock_create and sock_map_fd"
KINDS = (TCP, TCP6, UDP, UDP6, RAW_KIND, RAW6, NETLINK, PACKET, *UNIX)
#: Arguments that are refused, and the error.
REFUSED = {
    "flag": ((AF_UNIX, 0x100 | STREAM, 0), EINVAL), "family": ((FAMILY_MAX, STREAM, 0), EAFNOSUPPORT),
    "absent": ((0, STREAM, 0), EAFNOSUPPORT), "type-range": ((AF_INET, TYPE_MAX, 0), EINVAL),
    "type": ((AF_INET, RDM, 0), ESOCKTNOSUPPORT), "protocol-range": ((AF_INET, STREAM, 300), EINVAL),
    "protocol": ((AF_INET, STREAM, 77), EPROTONOSUPPORT), "raw": ((AF_INET, RAW, 0), EPROTONOSUPPORT),
    "unix": ((AF_UNIX, DGRAM, 7), EPROTONOSUPPORT),
}  # fmt: skip


@behaviour("socket.descriptor.limit", "socket(2) EMFILE; getrlimit(2) RLIMIT_NOFILE; get_unused_fd_flags")
def test_limit(descriptor_limit, calls, expect):
    """socket fails with EMFILE if every descriptor below RLIMIT_NOFILE is open, and returns one that is closed then."""
    free = procfs.lowest(4)
    descriptor_limit.leave(3)
    for left, fd in zip((3, 2, 1), free, strict=False):
        expect(fd, left=left).of(calls.socket(*UDP.triple))
    for attempt in range(3):
        for kind in (UDP, TCP, UNIX_STREAM):
            expect(-EMFILE, kind=kind, attempt=attempt).of(calls.socket(*kind.triple))
    need(calls.close(free[1]))
    expect(free[1], after="close").of(calls.socket(*TCP.triple))
    expect(-EMFILE, after="taking-it").of(calls.socket(*TCP.triple))


@behaviour("socket.descriptor.limit-nothing-leaks", f"{SOURCE_FAILURE}; socket(2) EMFILE")
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_limit_nothing_leaks(kind, make, descriptor_limit, calls, expect):
    """socket that fails with EMFILE frees the socket that it had made: counts, tables and descriptors do not change."""
    make(kind)
    counted, listed, opened = procfs.socket_counts(), procfs.row_counts(), procfs.descriptors()
    counts, rows = expect(counted, judged="counts"), expect(listed, judged="rows")
    same_descriptors = expect(True, judged="descriptors")
    descriptor_limit.leave(0)
    refused = expect([-EMFILE] * 20, attempts=20)
    results = [calls.socket(*kind.triple) for _ in range(20)]
    refused.of(results, *results)
    descriptor_limit.restore()
    counts.of(procfs.read_until(procfs.socket_counts, counted), *results)
    rows.of(procfs.row_counts(), *results)
    same_descriptors.of(opened == procfs.descriptors(), *results)


@behaviour("socket.descriptor.failure-nothing-leaks", SOURCE_FAILURE)
def test_failure_nothing_leaks(calls, expect):
    """socket that fails, many times for each reason, leaves no descriptor and no socket."""
    for why, (triple, error) in REFUSED.items():
        counted, opened = procfs.socket_counts(), procfs.descriptors()
        result = expect(-error, refused=why)
        counts = expect(counted, refused=why, judged="counts")
        same_descriptors = expect(True, refused=why, judged="descriptors")
        sweep = Sweep(calls)
        sweep.call("socket", *triple, judged=True)
        swept = sweep.run(range(TIMES))
        result.of(swept)
        last = swept.again(0)
        counts.of(procfs.read_until(procfs.socket_counts, counted), last)
        same_descriptors.of(opened == procfs.descriptors(), last)
