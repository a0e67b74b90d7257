"""The arguments of bind(2): descriptor, length, pointer and address family, valid and invalid."""

import os
import select
import struct
from errno import EAFNOSUPPORT, EBADF, EFAULT, EINVAL, ENOTSOCK
from socket import AF_INET, AF_INET6, AF_PACKET, AF_UNIX, AF_UNSPEC

import pytest

from probes.entry.memory import PAGE, PROT_READ, Block, Memory
from probes.entry.sweep import Sweep
from probes.testing import behaviour, need, procfs
from probes.testing.caller import Caller
from probes.testing.socket_kinds import TCP, TCP6, UDP, UDP6, UNIX
from tests.bind.bind_forms import FORMS, LONGEST, family_word, inet, inet6, unix

SOURCE_FD = "bind(2); __sys_bind, sockfd_lookup_light; S4 3.1 step 2"
SOURCE_LENGTH = "bind(2) EINVAL; move_addr_to_kernel `ulen > sizeof(struct sockaddr_storage)`; S4 3.1 step 3"
SOURCE_SHORT = (
    "bind(2) EINVAL; inet_bind, raw_bind, inet6_bind, rawv6_bind, unix_bind, netlink_bind, packet_bind `addr_len <`;"
    " S4 3.2 step 3"
)
SOURCE_MEMORY = "bind(2) EFAULT; move_addr_to_kernel `copy_from_user`; S4 3.1 step 3"
SOURCE_FAMILY = (
    "bind(2) EINVAL; ip(7) sin_family; unix(7) EINVAL; __inet_bind, __inet6_bind, rawv6_bind, unix_validate_addr,"
    " netlink_bind, packet_bind"
)
#: Lengths that are negative or above sizeof(struct sockaddr_storage).
BAD_LENGTHS = (-1, -16, -LONGEST, -(2**31), LONGEST + 1, 255, 256, 4096, 0x10010, 0x1000010, 0x7FFFFFFF, -0x7FFFFFF0)

each_form = pytest.mark.parametrize("form", FORMS, ids=str)


def closed_descriptor() -> int:
    """Returns a descriptor that has been closed."""
    (fd,) = procfs.lowest()
    return fd


def no_sockets(caller: Caller) -> dict[str, int]:
    """Opens descriptors of everything but sockets. Returns them by name, as the caller has them."""
    reading, writing = os.pipe()
    with select.epoll() as poll:
        epoll = os.dup(poll.fileno())
    opened = {
        "file": os.open("file", os.O_RDWR | os.O_CREAT),
        "folder": os.open(".", os.O_RDONLY),
        "device": os.open("/dev/null", os.O_RDWR),
        "pipe-read": reading,
        "pipe-write": writing,
        "epoll": epoll,
        "eventfd": os.eventfd(0),
        "memfd": os.memfd_create("memory"),
    }
    return {name: caller.adopt(fd) for name, fd in opened.items()}


@behaviour("bind.descriptor.not-open", f"{SOURCE_FD}; bind(2) EBADF; open(2) O_PATH")
def test_not_open(calls, caller, memory, expect):
    """bind of a descriptor that is not open, or that was opened with O_PATH, fails with EBADF for every length and
    address.
    """
    good = memory.guarded(inet(0))
    words = {"good": (good, 16), "unreadable": (memory.unmapped(), 16), "too-long": (good, -1), "none": (0, 0)}
    closed, path = closed_descriptor(), caller.adopt(os.open(".", os.O_PATH))
    for address, (pointer, length) in words.items():
        expect(-EBADF, fd="closed", address=address).of(calls.bind(closed, pointer, length))
        expect(-EBADF, fd="path", address=address).of(calls.bind(path, pointer, length))
        for fd in (-1, -100, -(2**31), 0x7FFFFFFF):
            expect(-EBADF, fd=fd, address=address).of(calls.bind(fd, pointer, length))
    sweep = Sweep(calls)
    sweep.call("bind", sweep.value, good, 16, judged=True)
    expect(-EBADF, fds="-4096..-1").of(sweep.run(range(-4096, 0)))
    # Beyond what a process may have: include/linux/fdtable.h sysctl_nr_open_max.
    expect(-EBADF, fds="0x7fff0000..0x7fff0fff").of(sweep.run(range(0x7FFF0000, 0x7FFF1000)))


@behaviour("bind.descriptor.no-socket", f"{SOURCE_FD}; bind(2) ENOTSOCK")
def test_no_socket(calls, memory, expect, caller):
    """bind of a descriptor that is no socket fails with ENOTSOCK for every length and address."""
    good = memory.guarded(inet(0))
    words = {"good": (good, 16), "unreadable": (memory.unmapped(), 16), "too-long": (good, -1), "none": (0, 0)}
    for name, fd in no_sockets(caller).items():
        for address, (pointer, length) in words.items():
            expect(-ENOTSOCK, fd=name, address=address).of(calls.bind(fd, pointer, length))


@behaviour("bind.length.out-of-range", SOURCE_LENGTH)
@each_form
def test_length_out_of_range(form, new_socket, memory, expect):
    """bind with a negative length or one above 128 fails with EINVAL, whether the address can be read or not, and binds
    nothing.
    """
    socket, good = new_socket(*form.kind.triple), memory.put(form.good + bytes(2 * PAGE))
    before = socket.sockname().bytes
    for address, pointer in {"good": good, "unreadable": memory.unmapped()}.items():
        check = expect([-EINVAL] * len(BAD_LENGTHS), address=address)
        results = [socket.bind(pointer, length) for length in BAD_LENGTHS]
        check.of(results, *results)
    expect(before, afterwards="name").of(socket.sockname())


@behaviour("bind.length.every", f"{SOURCE_SHORT}; {SOURCE_LENGTH}")
@each_form
def test_every_length(form, new_socket, calls, memory, ranges, expect):
    """bind accepts every length from that of the family's structure (16 for IPv4, 24 for IPv6, 2 for AF_UNIX, 12 for
    AF_NETLINK, 20 for AF_PACKET) to 128 (110 for AF_UNIX); a shorter or longer one fails with EINVAL.
    """
    address, enough, most = memory.put(form.good + bytes(2 * PAGE)), form.enough, form.most
    socket = new_socket(*form.kind.triple)
    refused = Sweep(calls)
    refused.call("bind", socket, address, refused.value, judged=True)
    expect(-EINVAL, lengths=f"0..{enough - 1}").of(refused.run(range(enough)))
    # Beyond LONGEST move_addr_to_kernel refuses a length before it knows the family: all are tried with one form.
    name, lengths = ranges.of(LONGEST + 1, PAGE, whole=form is FORMS[0])
    expect(-EINVAL, lengths=name).of(refused.run([*range(most + 1, LONGEST + 1), *lengths]))
    expect(-EINVAL, lengths="negative").of(refused.run(ranges.sample((-(2**31), -1))))
    bound = Sweep(calls)
    # A packet socket can be bound again, and its close is slow: packet_release waits for a grace period of RCU.
    fd = socket if form.family == AF_PACKET else bound.call("socket", *form.kind.triple)
    bound.call("bind", fd, address, bound.value, judged=True)
    if fd is not socket:
        bound.syscall("close", fd)
    expect(0, lengths=f"{enough}..{most}").of(bound.run(range(enough, most + 1)))


@behaviour("bind.length.zero", f"{SOURCE_SHORT}; move_addr_to_kernel `ulen == 0`")
def test_length_zero(new_socket, memory, expect):
    """bind with length 0 fails with EINVAL, not EFAULT, also if the address cannot be read: no family has an empty
    address.
    """
    for form in FORMS:
        socket = new_socket(*form.kind.triple)
        for name, pointer in {"good": memory.put(form.good), "null": 0, "unreadable": memory.unmapped()}.items():
            expect(-EINVAL, form=form, address=name).of(socket.bind(pointer, 0))


@behaviour("bind.memory.unreadable", SOURCE_MEMORY)
@each_form
def test_unreadable(form, new_socket, calls, memory, expect):
    """bind fails with EFAULT if the address, or only its last byte, cannot be read, for every length from 1 to 128, and
    binds nothing.
    """
    socket = new_socket(*form.kind.triple)
    before = socket.sockname().bytes
    sweep = Sweep(calls)
    sweep.call("bind", socket, memory.unmapped(), sweep.value, judged=True)
    expect(-EFAULT, memory="unreadable", lengths=f"1..{LONGEST}").of(sweep.run(range(1, LONGEST + 1)))
    for length in (1, form.enough, LONGEST):
        expect(-EFAULT, memory="null", length=length).of(socket.bind(0, length))
    whole = form.good.ljust(LONGEST, b"\0")
    last_byte = expect([-EFAULT] * LONGEST, memory="last-byte-missing", lengths=f"1..{LONGEST}")
    results = [socket.bind(memory.guarded(whole[: length - 1]), length) for length in range(1, LONGEST + 1)]
    last_byte.of(results, *results)
    expect(before, afterwards="name").of(socket.sockname())
    expect(0, afterwards="bind").of(socket.bind(form.good))


@behaviour("bind.memory.placement", f"{SOURCE_MEMORY}; bind(2) `const struct sockaddr *addr`")
def test_placement(new_socket, memory, expect):
    """The address can be at any alignment, across pages, in read-only memory and at the end of readable memory; bind
    does not write to it.
    """
    for form in FORMS:
        good, size = form.good, len(form.good)
        for name, block in places(memory, good).items():
            socket = new_socket(*form.kind.triple)
            check = expect([0, good], form=form, memory=name)
            result = socket.bind(block)
            check.of([result, block.part(0, size).read()], result)
            need(socket.close())


def places(memory: Memory, good: bytes) -> dict[str, Block]:
    """Puts an address into memory in several places. Returns the blocks by place."""
    size = len(good)
    blocks = {
        "across-pages": memory.guarded(PAGE + size).part(size // 2, size),
        "before-hole": memory.before_hole(size),
        **{f"offset-{offset}": memory.alloc(64).part(offset, size) for offset in (1, 2, 3)},
    }
    for block in blocks.values():
        block.write(good)
    return {**blocks, "read-only": memory.guarded(good, PROT_READ)}


@behaviour("bind.family.other", SOURCE_FAMILY)
def test_other_family(new_socket, calls, memory, expect):
    """bind to an address of another family fails: with EAFNOSUPPORT on TCP and UDP, with EINVAL on raw IPv6, AF_UNIX,
    AF_NETLINK and AF_PACKET sockets. A raw IPv4 socket ignores the family.

    AF_UNSPEC on TCP and UDP over IPv4 has a behaviour of its own, bind.family.unspec.
    """
    for form in FORMS:
        own, refused = form.family, form.other_family
        address = memory.put(form.good.ljust(28, b"\0"))
        socket = new_socket(*form.kind.triple)
        sweep = Sweep(calls)
        # The family and the two bytes after it, which are zero: port 0, an abstract name, padding, no protocol.
        sweep.value.block = address.part(0, 4)
        sweep.call("bind", socket, address, 28, judged=True)
        first = 1 if form.kind in (TCP, UDP) else 0
        start = first
        for family in sorted({own, *form.passed, 4096}):
            if start < family:
                expect(refused, form=form, families=f"{start}..{family - 1}").of(sweep.run(range(start, family)))
            start = family + 1
        for family in form.passed:
            expect(form.unchecked, form=form, family=int(family)).of(sweep.once(family))
        for family in (own << 8, own | 0x100, own | 0x8000, 0xFFFF):
            wrong = family_word(family) + form.good[2:].ljust(26, b"\0")
            expect(refused, form=form, family=f"{family:#06x}").of(socket.bind(wrong))


@behaviour("bind.family.unspec", "__inet_bind `Compatibility games : accept AF_UNSPEC`, __inet6_bind; BEHAVIOURS bind")
@pytest.mark.parametrize("kind", [TCP, UDP], ids=str)
def test_unspec(kind, new_socket, expect):
    """bind of an IPv4 TCP or UDP socket takes AF_UNSPEC with the wildcard address as AF_INET; with another address it
    fails with EAFNOSUPPORT.
    """
    rest = struct.pack(">HI8x", 5000, 0)
    socket = new_socket(*kind.triple)
    expect(0, address="any").of(socket.bind(family_word(AF_UNSPEC) + rest))
    expect(inet(5000), address="any", afterwards="name").of(socket.sockname())
    for name, host in {"loopback": 0x7F000001, "broadcast": 0xFFFFFFFF, "multicast": 0xE0000001, "one": 1}.items():
        rest = struct.pack(">HI8x", 5001, host)
        expect(-EAFNOSUPPORT, address=name).of(new_socket(*kind.triple).bind(family_word(AF_UNSPEC) + rest))


@behaviour("bind.family.each-other", f"{SOURCE_FAMILY}; ipv6(7) sin6_family")
def test_each_other(new_socket, expect):
    """bind of an IPv4 or IPv6 socket to an address of the other family or of AF_UNIX fails with EAFNOSUPPORT, bind of an
    AF_UNIX socket to one of theirs with EINVAL.
    """
    addresses = {"inet": inet(5000).ljust(28, b"\0"), "inet6": inet6(5000), "unix": unix(b"\0".ljust(26, b"n"))}
    own: dict[int, str] = {AF_INET: "inet", AF_INET6: "inet6", AF_UNIX: "unix"}
    for kind in (TCP, UDP, TCP6, UDP6, *UNIX):
        refused = -EINVAL if kind in UNIX else -EAFNOSUPPORT
        for name, address in addresses.items():
            if name != own[kind.family]:
                expect(refused, kind=kind, address=name).of(new_socket(*kind.triple).bind(address))
