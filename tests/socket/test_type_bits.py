"""The type argument of socket(2): a type in its low four bits, two flags, and bits that must be clear.

__sys_socket compares the bits above the type with a mask: each of them alone and in pairs, the lower 65,536 words over one
entry and a sample of all words over each tell a wrong mask from a right one. Words that are refused for such a bit are one
check; the others are one each, since they make different sockets.
"""

import itertools
from collections.abc import Mapping
from errno import EAGAIN, EINVAL
from socket import AF_NETLINK, AF_UNIX

import pytest

from probes.entry.calls import Calls
from probes.entry.sweep import Sweep
from probes.testing import behaviour, need, procfs
from probes.testing.expect import Expect
from probes.testing.socket_kinds import NETLINK, PACKET, RAW6, TCP, TCP6, UDP, UDP6, UNIX
from probes.testing.socket_kinds import RAW as RAW_KIND
from probes.testing.socket_model import (
    CLOEXEC,
    NONBLOCK,
    STREAM,
    TYPE_FLAGS,
    TYPE_MASK,
    type_word_answer,
    with_descriptor,
)

SOURCE = "socket(2) EINVAL Invalid flags in type; __sys_socket `flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)`; S5"
SOURCE_FLAGS = "socket(2) SOCK_NONBLOCK, SOCK_CLOEXEC; __sys_socket, sock_map_fd; S5"
#: The bits that are neither type nor flag.
UNKNOWN = 0xFFFFFFFF & ~(TYPE_MASK | CLOEXEC | NONBLOCK)
F_GETFD, F_GETFL, FD_CLOEXEC, O_RDWR = 1, 3, 1, 2
KINDS = (TCP, TCP6, UDP, UDP6, RAW_KIND, RAW6, NETLINK, PACKET, *UNIX)


def type_sweep(calls: Calls, family: int) -> Sweep:
    """Returns a sweep of socket() over type words, with protocol 0."""
    sweep = Sweep(calls)
    sweep.call("socket", family, sweep.value, 0, judged=True)
    return sweep


def judge_words(calls: Calls, expect: Expect, family: int, case: str, words: Mapping[str, int]) -> None:
    """Judges type words by name: each with known bits only is a check, all others are one more, "unknown"."""
    refused = sorted(word for word in words.values() if word & UNKNOWN)
    expect(-EINVAL, **{case: "unknown"}).of(type_sweep(calls, family).run(refused))
    # After these: one that was accepted has taken a descriptor.
    (free,) = procfs.lowest()
    for name, word in words.items():
        if not word & UNKNOWN:
            check = expect(with_descriptor(type_word_answer(family, word), free), **{case: name})
            result = calls.socket(family, word, 0)
            check.of(result)
            if result >= 0:
                need(calls.close(result))


@behaviour("socket.type.single-bit", SOURCE)
@pytest.mark.parametrize("family", [AF_UNIX, AF_NETLINK], ids=lambda family: family.name)
@pytest.mark.parametrize("base", [0, 1])
def test_single_bit(family, base, calls, expect):
    """Each bit of the type beyond the low four, SOCK_CLOEXEC and SOCK_NONBLOCK makes socket fail with EINVAL.

    It does alone and added to a valid type.
    """
    judge_words(calls, expect, family, "bit", {str(bit): base | 1 << bit for bit in range(32)})


@behaviour("socket.type.two-bits", SOURCE)
@pytest.mark.parametrize("family", [AF_UNIX, AF_NETLINK], ids=lambda family: family.name)
def test_two_bits(family, calls, expect):
    """socket fails with EINVAL if either of two bits of the type is neither of the low four nor one of the two flags."""
    pairs = itertools.combinations(range(32), 2)
    judge_words(calls, expect, family, "bits", {f"{low}+{high}": 1 << low | 1 << high for low, high in pairs})


@behaviour("socket.type.unknown-flags", SOURCE)
@pytest.mark.parametrize(
    ("first", "last"),
    [(0x10, NONBLOCK - 1), (NONBLOCK + 0x10, 0xFFFF), (-0x10000, -1)],
    ids=["low", "middle", "negative"],
)
def test_unknown_flags(first, last, calls, ranges, expect):
    """socket fails with EINVAL for the type words of these ranges: each has a bit that is neither type nor flag."""
    _, words = ranges.of(first, last, whole=first > 0)
    expect(-EINVAL).of(type_sweep(calls, AF_UNIX).run(words))


@behaviour("socket.type.descriptor-flags", SOURCE_FLAGS)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_descriptor_flags(kind, make, calls, fcntl, expect):
    """SOCK_CLOEXEC sets FD_CLOEXEC alone, SOCK_NONBLOCK sets O_NONBLOCK alone; the access mode is O_RDWR."""
    make(kind)
    for name, bits in TYPE_FLAGS.items():
        descriptor_flags = expect(FD_CLOEXEC if bits & CLOEXEC else 0, flags=name, read="F_GETFD")
        status_flags = expect(O_RDWR | bits & NONBLOCK, flags=name, read="F_GETFL")
        made = calls.socket(kind.family, kind.type | bits, kind.protocol)
        need(made)
        descriptor_flags.of(fcntl(made, F_GETFD), made)
        status_flags.of(fcntl(made, F_GETFL), made)


@behaviour("socket.type.flags-are-no-type", f"{SOURCE_FLAGS}; socket(7) SO_TYPE")
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_flags_are_no_type(kind, make, new_socket, expect):
    """SO_TYPE of a socket made with SOCK_CLOEXEC and SOCK_NONBLOCK is the type without these flags."""
    make(kind)
    socket = new_socket(kind.family, kind.type | CLOEXEC | NONBLOCK, kind.protocol)
    expect(kind.type).of(socket.getsockopt(1, 3).as_unsigned())


@behaviour("socket.type.nonblock-holds", f"{SOURCE_FLAGS}; read(2) EAGAIN")
def test_nonblock_holds(make, calls, memory, expect):
    """read from a socket made with SOCK_NONBLOCK fails with EAGAIN if its receive queue is empty."""
    buffer = memory.guarded(16)
    for kind in (UDP, NETLINK, PACKET):
        make(kind)
        check = expect(-EAGAIN, kind=kind)
        made = calls.socket(kind.family, kind.type | NONBLOCK, kind.protocol)
        need(made)
        check.of(calls.syscall("read", made, buffer, buffer.size), made)


@behaviour("socket.type.cloexec-holds", f"{SOURCE_FLAGS}; execve(2)")
def test_cloexec_holds(calls, children, expect):
    """execve closes a socket made with SOCK_CLOEXEC and keeps one made without it."""
    for name, bits in TYPE_FLAGS.items():
        inherited = expect(not bits & CLOEXEC, flags=name)
        made = calls.socket(AF_UNIX, STREAM | bits, 0)
        pid, release = children.execute()
        inherited.of(need(made) in procfs.descriptors(pid), made)
        release()
