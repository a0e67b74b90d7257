"""socketpair() refused: with which error, in which order, and what is left of it."""

import struct
from errno import EAFNOSUPPORT, EFAULT, EINVAL, EMFILE, EOPNOTSUPP, EPERM, EPROTONOSUPPORT, ESOCKTNOSUPPORT
from socket import AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_UNIX, AF_VSOCK

import pytest

from probes.entry.memory import POISON, PROT_READ
from probes.entry.sweep import Sweep
from probes.testing import behaviour, need
from probes.testing import procfs as witness
from probes.testing.socket_kinds import UNIX, UNIX_STREAM
from tests.socket.socket_model import AF_XDP, CLOEXEC, DGRAM, FAMILIES, NONBLOCK, RAW, RDM, STREAM, TIMES, TYPE_MAX

SOURCE = "socketpair(2); __sys_socketpair"
SOURCE_FAILURE = f"{SOURCE} put_unused_fd, sock_release on every error path"
#: Sockets that can be made and not in pairs (`.socketpair = sock_no_socketpair`).
NO_PAIRS = {
    "tcp": (AF_INET, STREAM, 0), "udp": (AF_INET, DGRAM, 0), "raw": (AF_INET, RAW, 253), "tcp6": (AF_INET6, STREAM, 0),
    "udp6": (AF_INET6, DGRAM, 0), "raw6": (AF_INET6, RAW, 253), "netlink": (AF_NETLINK, RAW, 0),
    "packet": (AF_PACKET, RAW, 0), "packet-dgram": (AF_PACKET, DGRAM, 0), "vsock": (AF_VSOCK, STREAM, 0),
    "xdp": (AF_XDP, RAW, 0),
}  # fmt: skip
#: What is refused before a socket is made, or while one is.
REFUSED = {
    "family-range": (-1, STREAM, 0, EAFNOSUPPORT), "family-absent": (0, STREAM, 0, EAFNOSUPPORT),
    "type-range": (AF_UNIX, TYPE_MAX, 0, EINVAL), "type-unknown": (AF_UNIX, RDM, 0, ESOCKTNOSUPPORT),
    "protocol": (AF_UNIX, STREAM, 7, EPROTONOSUPPORT), "protocol-inet": (AF_INET, STREAM, 77, EPROTONOSUPPORT),
    "protocol-range": (AF_INET, STREAM, 300, EINVAL), "no-pairs": (AF_INET, STREAM, 0, EOPNOTSUPP),
}  # fmt: skip


@pytest.fixture
def there():
    """The families that the kernel has."""
    return {number for number, family in FAMILIES.items() if family.registered}


@behaviour("socket.pair.not-supported", f"{SOURCE} EOPNOTSUPP, NOTES the only supported domains; sock_no_socketpair")
def test_not_supported(there, pair, expect):
    """Every other protocol makes sockets and no pairs: EOPNOTSUPP."""
    for name, triple in NO_PAIRS.items():
        if int(triple[0]) in there:
            expect(-EOPNOTSUPP, socket=name).of(pair(*triple))


@behaviour("socket.pair.refused", f"{SOURCE} ERRORS; __sock_create; socket(2) ERRORS")
def test_refused(pair, expect):
    """What socket() refuses socketpair() refuses with the same error."""
    for why, (family, type, protocol, error) in REFUSED.items():
        expect(-error, refused=why).of(pair(family, type, protocol))


@behaviour("socket.pair.unknown-flags", f"{SOURCE} `flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)`; socket(2) EINVAL")
def test_unknown_flags(pair, expect):
    """Each bit of the type word beyond type, SOCK_CLOEXEC and SOCK_NONBLOCK fails with EINVAL."""
    for bit in range(4, 32):
        expect(0 if 1 << bit in (CLOEXEC, NONBLOCK) else -EINVAL, bit=bit).of(pair(AF_UNIX, STREAM | 1 << bit))


@behaviour("socket.pair.bad-sv", f"{SOURCE} EFAULT; put_user; S2 copy_to_user")
def test_bad_sv(calls, memory, expect):
    """An sv that cannot be written, as a whole or in its second half, fails with EFAULT and leaves no descriptor and
    no socket.
    """
    before, opened = witness.counted(), witness.descriptors()
    places = {
        "null": 0, "unmapped": memory.unmapped(), "read-only": memory.guarded(8, PROT_READ), "half": memory.guarded(4),
        "seven-bytes": memory.guarded(7), "one-byte": memory.guarded(1), "top": 0xFFFFFFFC,
    }  # fmt: skip
    for name, sv in places.items():
        for kind in UNIX:
            announced = expect(-EFAULT, sv=name, kind=kind)
            result = calls.make("socketpair", *kind.triple, sv)
            announced.of(result)
        expect(True, sv=name, told="descriptors").of(opened == witness.descriptors(), result)
        expect(before, sv=name, told="counts").of(witness.in_time(witness.counted, before), result)
    sweep = Sweep(calls)
    sweep.call("socketpair", AF_UNIX, STREAM, 0, 0, judged=True)
    swept = sweep.run(range(TIMES))
    expect(-EFAULT, times=TIMES).of(swept)
    expect(True, times=TIMES, told="descriptors").of(opened == witness.descriptors(), swept.again(0))
    expect(before, times=TIMES, told="counts").of(witness.in_time(witness.counted, before), swept.again(0))


@behaviour("socket.pair.half-of-sv", f"{SOURCE} put_user(fd1, &usockvec[0]), put_user(fd2, &usockvec[1])")
def test_half_of_sv(calls, memory, expect):
    """Where the second word of sv cannot be written, the first one has been: it holds the number of a descriptor that
    is not open.
    """
    free, half = witness.lowest(), memory.guarded(4)
    announced = expect(-EFAULT, told="result")
    result = calls.make("socketpair", *UNIX_STREAM.triple, half)
    announced.of(result)
    expect(free, told="first-word").of(list(half.words()), result)
    expect(free, told="free").of(witness.lowest(), result)


@behaviour("socket.pair.sv-before-sockets", f"{SOURCE} put_user before sock_create; RETURN VALUE sv is left unchanged")
def test_sv_before_sockets(calls, pair, expect):
    """What is refused once the descriptors are reserved has changed sv all the same: it holds the two numbers, neither
    of which is open. An unknown flag is refused before, and leaves sv alone.

    socketpair(2) says that sv is left unchanged on failure, as POSIX wants; the kernel writes sv first, so that nothing
    has to be taken back when that fails.
    """
    free = witness.lowest(2)
    for why, (family, type, protocol, error) in REFUSED.items():
        announced = expect(-error, refused=why)
        result = pair(family, type, protocol)
        announced.of(result)
        expect(free, refused=why, told="sv").of(pair.sv, result)
        expect(free, refused=why, told="free").of(witness.lowest(2), result)
    announced = expect(-EINVAL, refused="flag")
    result = pair(AF_UNIX, STREAM | 0x100)
    announced.of(result)
    expect(bytes([POISON]) * 8, refused="flag", told="sv").of(struct.pack("<ii", *pair.sv), result)


@behaviour("socket.pair.order", f"{SOURCE}: flags, two descriptors, sv, family, type and protocol, pairs at all")
def test_order(calls, memory, descriptors, expect):
    """Of several things wrong an unknown flag is told first, then that there are no two descriptors, then a bad sv,
    then what socket() would tell, and at last that there are no pairs.
    """
    good = memory.guarded(8)
    for why, (family, type, protocol, _) in REFUSED.items():
        words = (family, type | 0x100, protocol, 0)
        expect(-EINVAL, wrong=f"flag,sv,{why}").of(calls.make("socketpair", *words))
        expect(-EFAULT, wrong=f"sv,{why}").of(calls.make("socketpair", family, type, protocol, 0))
    descriptors.leave(1)
    for why, (family, type, protocol, _) in REFUSED.items():
        words = (family, type | 0x100, protocol, 0)
        expect(-EINVAL, wrong=f"flag,descriptors,sv,{why}").of(calls.make("socketpair", *words))
        expect(-EMFILE, wrong=f"descriptors,sv,{why}").of(calls.make("socketpair", family, type, protocol, 0))
        expect(-EMFILE, wrong=f"descriptors,{why}").of(calls.make("socketpair", family, type, protocol, good))


@behaviour("socket.pair.limit", f"{SOURCE_FAILURE}; socketpair(2) EMFILE; getrlimit(2) RLIMIT_NOFILE")
@pytest.mark.parametrize("left", [0, 1, 2, 3])
def test_limit(left, calls, pair, descriptors, expect):
    """A pair needs two descriptors below RLIMIT_NOFILE: with fewer it fails with EMFILE, and the one that was left can
    be had.
    """
    free, before = witness.lowest(2), witness.counted()
    descriptors.leave(left)
    for attempt in range(5 if left < 2 else 1):
        announced = expect(0 if left >= 2 else -EMFILE, attempt=attempt)
        result = pair(*UNIX_STREAM.triple)
        announced.of(result)
    if left == 1:
        last = calls.socket(*UNIX_STREAM.triple)
        expect(free[0], after="the-one-left").of(last)
        need(calls.close(free[0]))
    descriptors.free()
    if left < 2:
        expect(before, told="counts").of(witness.in_time(witness.counted, before), result)
        expect(free, told="descriptors").of(witness.lowest(2), result)


@behaviour("socket.pair.nothing-leaks", SOURCE_FAILURE)
def test_nothing_leaks(calls, memory, expect):
    """Refusals of each kind, many times over, leave no descriptor and no socket, not even the two that were made."""
    before, opened = witness.counted(), witness.descriptors()
    for why, (family, type, protocol, error) in REFUSED.items():
        sweep = Sweep(calls)
        sweep.call("socketpair", family, type, protocol, memory.guarded(8), judged=True)
        swept = sweep.run(range(TIMES))
        expect(-error, refused=why).of(swept)
        last = swept.again(0)
        expect(True, refused=why, told="descriptors").of(opened == witness.descriptors(), last)
        expect(before, refused=why, told="counts").of(witness.in_time(witness.counted, before), last)


@behaviour("socket.pair.privilege", f"{SOURCE}; sock_create before the pair; raw(7), packet(7) CAP_NET_RAW")
def test_privilege(unprivileged, there, pair, expect):
    """A pair of AF_UNIX needs no capability; a socket that needs one is told EPERM, not that it has no pairs."""
    for kind in UNIX:
        expect(0, kind=kind).of(pair(*kind.triple))
    for name in ("raw", "raw6", "packet", "xdp"):
        if int(NO_PAIRS[name][0]) in there:
            expect(-EPERM, kind=name).of(pair(*NO_PAIRS[name]))
