"""The type word: a type in its low four bits, two flags, and bits that must be clear."""

import itertools
import subprocess
from errno import EAGAIN, EINVAL, ESOCKTNOSUPPORT
from socket import AF_NETLINK, AF_UNIX

import pytest

from probes.entry.sweep import Sweep
from probes.testing import behaviour, need
from probes.testing import procfs as witness
from probes.testing.socket_kinds import NETLINK, PACKET, RAW6, TCP, TCP6, UDP, UDP6, UNIX
from probes.testing.socket_kinds import RAW as RAW_KIND
from tests.socket.socket_model import CLOEXEC, DGRAM, NONBLOCK, OK, RAW, SEQPACKET, STREAM, TYPE_MASK

SOURCE = "socket(2) EINVAL Invalid flags in type; __sys_socket `flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)`; S5"
SOURCE_FLAGS = "socket(2) SOCK_NONBLOCK, SOCK_CLOEXEC; __sys_socket, sock_map_fd; S5"
#: The types that two families have on every kernel.
TYPES = {AF_UNIX: (STREAM, DGRAM, RAW, SEQPACKET), AF_NETLINK: (RAW, DGRAM)}
#: Types beyond SOCK_MAX that two bits spell: 12.
BEYOND = {12}
F_GETFD, F_GETFL, FD_CLOEXEC, O_RDWR = 1, 3, 1, 2
KINDS = (TCP, TCP6, UDP, UDP6, RAW_KIND, RAW6, NETLINK, PACKET, *UNIX)
FLAGS = {"none": 0, "cloexec": CLOEXEC, "nonblock": NONBLOCK, "both": CLOEXEC | NONBLOCK}


def answer(family, word):
    """What a type word answers."""
    if word & ~TYPE_MASK & ~(CLOEXEC | NONBLOCK) or word & TYPE_MASK in BEYOND:
        return -EINVAL
    return OK if word & TYPE_MASK in TYPES[family] else -ESOCKTNOSUPPORT


def check(calls, expect, family, word, **case):
    """Judges socket() with a type word. A descriptor must be the lowest that is free."""
    expected = answer(family, word)
    (free,) = witness.lowest()
    announced = expect(free if expected == OK else expected, **case)
    result = calls.socket(family, word, 0)
    announced.of(result)
    if result >= 0:
        need(calls.close(result))


@behaviour("socket.type.single-bit", SOURCE)
@pytest.mark.parametrize("family", [AF_UNIX, AF_NETLINK], ids=lambda family: family.name)
@pytest.mark.parametrize("base", [0, 1])
def test_single_bit(family, base, calls, expect):
    """Of the 32 bits of the type word the low four are the type and two are SOCK_CLOEXEC and SOCK_NONBLOCK; each of the
    others fails with EINVAL, alone and added to a good type.
    """
    for bit in range(32):
        check(calls, expect, family, base | 1 << bit, bit=bit)


@behaviour("socket.type.two-bits", SOURCE)
@pytest.mark.parametrize("family", [AF_UNIX, AF_NETLINK], ids=lambda family: family.name)
def test_two_bits(family, calls, expect):
    """Of each two bits of the type word, one outside the type and the two flags is enough for EINVAL."""
    for low, high in itertools.combinations(range(32), 2):
        check(calls, expect, family, 1 << low | 1 << high, bits=f"{low}+{high}")


@behaviour("socket.type.unknown-flags", SOURCE)
@pytest.mark.parametrize(
    ("first", "last"),
    [(0x10, NONBLOCK - 1), (NONBLOCK + 0x10, 0xFFFF), (-0x10000, -1)],
    ids=["low", "middle", "negative"],
)
def test_unknown_flags(first, last, calls, expect):
    """Every type word of these ranges has a bit that is neither type nor flag, and fails with EINVAL."""
    sweep = Sweep(calls)
    sweep.call("socket", AF_UNIX, sweep.value, 0, judged=True)
    expect(-EINVAL).of(sweep.run(range(first, last + 1)))


@behaviour("socket.type.descriptor-flags", SOURCE_FLAGS)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_descriptor_flags(kind, make, calls, fcntl, expect):
    """SOCK_CLOEXEC sets FD_CLOEXEC and nothing else, SOCK_NONBLOCK sets O_NONBLOCK and nothing else; a socket is made
    without them, for reading and writing.
    """
    make(kind)
    for name, bits in FLAGS.items():
        result = calls.socket(kind.family, kind.type | bits, kind.protocol)
        fd = need(result)
        expect(FD_CLOEXEC if bits & CLOEXEC else 0, flags=name, read="F_GETFD").of(fcntl(fd, F_GETFD))
        expect(O_RDWR | bits & NONBLOCK, flags=name, read="F_GETFL").of(fcntl(fd, F_GETFL))


@behaviour("socket.type.flags-are-no-type", f"{SOURCE_FLAGS}; socket(7) SO_TYPE")
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_flags_are_no_type(kind, make, new_socket, expect):
    """The flags do not stay in the type: SO_TYPE is the type alone."""
    make(kind)
    socket = new_socket(kind.family, kind.type | CLOEXEC | NONBLOCK, kind.protocol)
    result, value = socket.getsockopt(1, 3)
    expect(kind.type).of(int.from_bytes(value, "little"), result)


@behaviour("socket.type.nonblock-holds", f"{SOURCE_FLAGS}; read(2) EAGAIN")
def test_nonblock_holds(make, calls, memory, expect):
    """Reading a socket made with SOCK_NONBLOCK, which has nothing to read, fails with EAGAIN."""
    buffer = memory.guarded(16)
    for kind in (UDP, NETLINK, PACKET):
        make(kind)
        fd = need(calls.socket(kind.family, kind.type | NONBLOCK, kind.protocol))
        expect(-EAGAIN, kind=kind).of(calls.plain("read", fd, buffer, buffer.size))


@behaviour("socket.type.cloexec-holds", f"{SOURCE_FLAGS}; execve(2)")
def test_cloexec_holds(calls, expect):
    """A program that the process executes has a socket that was made without SOCK_CLOEXEC, and not one made with it."""
    for name, bits in FLAGS.items():
        result = calls.socket(AF_UNIX, STREAM | bits, 0)
        look = ["/bin/sh", "-c", f"test -S /proc/self/fd/{need(result)}"]
        inherited = subprocess.run(look, close_fds=False, check=False).returncode == 0
        expect(not bits & CLOEXEC, flags=name).of(inherited, result)
