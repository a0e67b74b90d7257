"""socketpair(2) refused: with which error, in which order, and without a leak."""

import struct
from errno import EAFNOSUPPORT, EFAULT, EINVAL, EMFILE, EOPNOTSUPP, EPERM, EPROTONOSUPPORT, ESOCKTNOSUPPORT
from socket import AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_UNIX, AF_VSOCK

import pytest

from probes.entry.memory import POISON, PROT_READ
from probes.entry.sweep import Sweep
from probes.testing import behaviour, need, procfs
from probes.testing.caller import Caller
from probes.testing.socket_kinds import UNIX, UNIX_STREAM
from probes.testing.socket_model import AF_XDP, CLOEXEC, DGRAM, FAMILIES, NONBLOCK, RAW, RDM, STREAM, TIMES, TYPE_MAX

SOURCE = "socketpair(2); __sys_socketpair"
SOURCE_FAILURE = f"{SOURCE} put_unused_fd, sock_release on every error path"
#: Sockets that socket() makes and socketpair() refuses (`.socketpair = sock_no_socketpair`).
NO_PAIRS = {
    "tcp": (AF_INET, STREAM, 0), "udp": (AF_INET, DGRAM, 0), "raw": (AF_INET, RAW, 253), "tcp6": (AF_INET6, STREAM, 0),
    "udp6": (AF_INET6, DGRAM, 0), "raw6": (AF_INET6, RAW, 253), "netlink": (AF_NETLINK, RAW, 0),
    "packet": (AF_PACKET, RAW, 0), "packet-dgram": (AF_PACKET, DGRAM, 0), "vsock": (AF_VSOCK, STREAM, 0),
    "xdp": (AF_XDP, RAW, 0),
}  # fmt: skip
#: Arguments that are refused before or while a socket is made, and the error.
REFUSED = {
    "family-range": (-1, STREAM, 0, EAFNOSUPPORT), "family-absent": (0, STREAM, 0, EAFNOSUPPORT),
    "type-range": (AF_UNIX, TYPE_MAX, 0, EINVAL), "type-unknown": (AF_UNIX, RDM, 0, ESOCKTNOSUPPORT),
    "protocol": (AF_UNIX, STREAM, 7, EPROTONOSUPPORT), "protocol-inet": (AF_INET, STREAM, 77, EPROTONOSUPPORT),
    "protocol-range": (AF_INET, STREAM, 300, EINVAL), "no-pairs": (AF_INET, STREAM, 0, EOPNOTSUPP),
}  # fmt: skip


@pytest.fixture
def registered(caller: Caller) -> set[int]:
    """The families that the kernel has."""
    return {number for number, family in FAMILIES.items() if family.registered}


@behaviour("socket.pair.not-supported", f"{SOURCE} EOPNOTSUPP, NOTES the only supported domains; sock_no_socketpair")
def test_not_supported(registered, pair, expect):
    """socketpair of any other family than AF_UNIX and AF_TIPC fails with EOPNOTSUPP."""
    for name, triple in NO_PAIRS.items():
        if int(triple[0]) in registered:
            expect(-EOPNOTSUPP, socket=name).of(pair(*triple))


@behaviour("socket.pair.refused", f"{SOURCE} ERRORS; __sock_create; socket(2) ERRORS")
def test_refused(pair, expect):
    """socketpair fails with the errors of socket for a family, type or protocol that socket refuses."""
    for why, (family, type, protocol, error) in REFUSED.items():
        expect(-error, refused=why).of(pair(family, type, protocol))


@behaviour("socket.pair.unknown-flags", f"{SOURCE} `flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)`; socket(2) EINVAL")
def test_unknown_flags(pair, expect):
    """Each bit of the type beyond the low four, SOCK_CLOEXEC and SOCK_NONBLOCK makes socketpair fail with EINVAL."""
    for bit in range(4, 32):
        expect(0 if 1 << bit in (CLOEXEC, NONBLOCK) else -EINVAL, bit=bit).of(pair(AF_UNIX, STREAM | 1 << bit))


@behaviour("socket.pair.bad-sv", f"{SOURCE} EFAULT; put_user; S2 copy_to_user")
def test_bad_sv(calls, memory, expect):
    """socketpair fails with EFAULT if either word of sv cannot be written, and leaves no descriptor and no socket."""
    counted, opened = procfs.socket_counts(), procfs.descriptors()
    places = {
        "null": 0, "unmapped": memory.unmapped(), "read-only": memory.guarded(8, PROT_READ), "half": memory.guarded(4),
        "seven-bytes": memory.guarded(7), "one-byte": memory.guarded(1), "top": 0xFFFFFFFC,
    }  # fmt: skip
    for name, sv in places.items():
        same_descriptors, counts = (
            expect(True, sv=name, judged="descriptors"),
            expect(counted, sv=name, judged="counts"),
        )
        results = []
        for kind in UNIX:
            check = expect(-EFAULT, sv=name, kind=kind)
            results.append(calls.make("socketpair", *kind.triple, sv))
            check.of(results[-1])
        same = opened == procfs.descriptors()
        same_descriptors.of(same, *results)
        # What is open does not go by itself: only where nothing was left can a wait end.
        now = procfs.read_until(procfs.socket_counts, counted) if same else procfs.socket_counts()
        counts.of(now, *results)
    result = expect(-EFAULT, times=TIMES)
    same_descriptors, counts = (
        expect(True, times=TIMES, judged="descriptors"),
        expect(counted, times=TIMES, judged="counts"),
    )
    sweep = Sweep(calls)
    sweep.call("socketpair", AF_UNIX, STREAM, 0, 0, judged=True)
    swept = sweep.run(range(TIMES))
    result.of(swept)
    last = swept.again(0)
    same_descriptors.of(opened == procfs.descriptors(), last)
    counts.of(procfs.read_until(procfs.socket_counts, counted), last)


@behaviour(
    "socket.pair.half-of-sv",
    f"{SOURCE} put_user(fd1, &usockvec[0]), put_user(fd2, &usockvec[1])",
    tag="implementation",
)
def test_half_of_sv(calls, memory, expect):
    """socketpair that cannot write the second word of sv has written the first: the number of a closed descriptor."""
    free, half = procfs.lowest(), memory.guarded(4)
    result, first_word = expect(-EFAULT, judged="result"), expect(free, judged="first-word")
    still_free = expect(free, judged="free")
    refused = calls.make("socketpair", *UNIX_STREAM.triple, half)
    result.of(refused)
    first_word.of(list(half.words()), refused)
    still_free.of(procfs.lowest(), refused)


@behaviour(
    "socket.pair.sv-before-sockets",
    f"{SOURCE} put_user before sock_create; RETURN VALUE sv is left unchanged",
    tag="implementation",
)
def test_sv_before_sockets(pair, expect):
    """socketpair that fails after it reserved descriptors has written their numbers to sv; neither is open.

    An unknown flag is refused before, and leaves sv unchanged. socketpair(2) and POSIX say that sv is unchanged on every
    failure; the kernel writes sv first, so that it need not undo anything if that fails.
    """
    free = procfs.lowest(2)
    for why, (family, type, protocol, error) in REFUSED.items():
        result, sv = expect(-error, refused=why), expect(free, refused=why, judged="sv")
        still_free = expect(free, refused=why, judged="free")
        refused = pair(family, type, protocol)
        result.of(refused)
        sv.of(pair.sv, refused)
        still_free.of(procfs.lowest(2), refused)
    result, sv = expect(-EINVAL, refused="flag"), expect(bytes([POISON]) * 8, refused="flag", judged="sv")
    refused = pair(AF_UNIX, STREAM | 0x100)
    result.of(refused)
    sv.of(struct.pack("<ii", *pair.sv), refused)


@behaviour(
    "socket.pair.order",
    f"{SOURCE}: flags, two descriptors, sv, family, type and protocol, pairs at all",
    tag="implementation",
)
def test_order(calls, memory, descriptor_limit, expect):
    """socketpair checks in this order: unknown flags, two free descriptors, sv, what socket checks, support of pairs."""
    good = memory.guarded(8)
    for why, (family, type, protocol, _) in REFUSED.items():
        words = (family, type | 0x100, protocol, 0)
        expect(-EINVAL, wrong=f"flag,sv,{why}").of(calls.make("socketpair", *words))
        expect(-EFAULT, wrong=f"sv,{why}").of(calls.make("socketpair", family, type, protocol, 0))
    descriptor_limit.leave(1)
    for why, (family, type, protocol, _) in REFUSED.items():
        words = (family, type | 0x100, protocol, 0)
        expect(-EINVAL, wrong=f"flag,descriptors,sv,{why}").of(calls.make("socketpair", *words))
        expect(-EMFILE, wrong=f"descriptors,sv,{why}").of(calls.make("socketpair", family, type, protocol, 0))
        expect(-EMFILE, wrong=f"descriptors,{why}").of(calls.make("socketpair", family, type, protocol, good))


@behaviour("socket.pair.limit", f"{SOURCE_FAILURE}; socketpair(2) EMFILE; getrlimit(2) RLIMIT_NOFILE")
@pytest.mark.parametrize("left", [0, 1, 2, 3])
def test_limit(left, calls, pair, descriptor_limit, expect):
    """socketpair fails with EMFILE unless two descriptors below RLIMIT_NOFILE are free; a single one stays free."""
    free, counted = procfs.lowest(2), procfs.socket_counts()
    if left < 2:
        counts, same_descriptors = expect(counted, judged="counts"), expect(free, judged="descriptors")
    descriptor_limit.leave(left)
    results = []
    for attempt in range(5 if left < 2 else 1):
        check = expect(0 if left >= 2 else -EMFILE, attempt=attempt)
        results.append(pair(*UNIX_STREAM.triple))
        check.of(results[-1])
    if left == 1:
        expect(free[0], after="the-one-left").of(calls.socket(*UNIX_STREAM.triple))
        need(calls.close(free[0]))
    descriptor_limit.restore()
    if left < 2:
        counts.of(procfs.read_until(procfs.socket_counts, counted), *results)
        same_descriptors.of(procfs.lowest(2), *results)


@behaviour("socket.pair.nothing-leaks", SOURCE_FAILURE)
def test_nothing_leaks(calls, memory, expect):
    """socketpair that fails, many times for each reason, leaves no descriptor and no socket."""
    counted, opened = procfs.socket_counts(), procfs.descriptors()
    for why, (family, type, protocol, error) in REFUSED.items():
        result = expect(-error, refused=why)
        same_descriptors = expect(True, refused=why, judged="descriptors")
        counts = expect(counted, refused=why, judged="counts")
        sweep = Sweep(calls)
        sweep.call("socketpair", family, type, protocol, memory.guarded(8), judged=True)
        swept = sweep.run(range(TIMES))
        result.of(swept)
        last = swept.again(0)
        same_descriptors.of(opened == procfs.descriptors(), last)
        counts.of(procfs.read_until(procfs.socket_counts, counted), last)


@behaviour("socket.pair.privilege", f"{SOURCE}; sock_create before the pair; raw(7), packet(7) CAP_NET_RAW")
def test_privilege(unprivileged, registered, pair, expect):
    """socketpair of AF_UNIX needs no capability; of a socket that needs CAP_NET_RAW it fails with EPERM without it."""
    for kind in UNIX:
        expect(0, kind=kind).of(pair(*kind.triple))
    for name in ("raw", "raw6", "packet", "xdp"):
        if int(NO_PAIRS[name][0]) in registered:
            expect(-EPERM, kind=name).of(pair(*NO_PAIRS[name]))
