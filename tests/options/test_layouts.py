"""Options and ioctls whose structures have another layout on i386 than on x86-64: filters, groups, ifconf, stamps."""

import socket
import struct
from errno import EADDRNOTAVAIL, EFAULT, EINVAL, ENOENT

import pytest

from probes.abi.sockaddr import inet, inet6
from probes.entry.memory import POISON
from probes.testing import behaviour, need
from probes.testing.socket_kinds import UDP, UDP6

SOL_SOCKET = socket.SOL_SOCKET
BEHIND = bytes([POISON]) * 16
#: include/uapi/asm-generic/socket.h, in.h, sockios.h.
SO_ATTACH_FILTER, SO_DETACH_FILTER, SO_ATTACH_REUSEPORT_CBPF = 26, 27, 51
IP_MSFILTER = 41
JOIN_GROUP, BLOCK_SOURCE, UNBLOCK_SOURCE, LEAVE_GROUP, JOIN_SOURCE_GROUP, LEAVE_SOURCE_GROUP, MSFILTER = range(42, 49)
SIOCGIFCONF, SIOCGIFINDEX, SIOCGIFNAME = 0x8912, 0x8933, 0x8910
SIOCGSTAMP_OLD, SIOCGSTAMPNS_OLD, SIOCGSTAMP_NEW, SIOCGSTAMPNS_NEW = 0x8906, 0x8907, 0x80108906, 0x80108907
#: The loopback link is the first of a network namespace (LOOPBACK_IFINDEX).
LOOPBACK = 1
IFREQ, EXCLUDE, INCLUDE = 32, 0, 1
#: What an address is refused with whose family is read as 0.
NO_FAMILY = {UDP: EINVAL, UDP6: EADDRNOTAVAIL}

each_kind = pytest.mark.parametrize("kind", (UDP, UDP6), ids=str)


def fprog(count, program):
    """Packs a struct sock_fprog: 8 bytes, with the pointer at offset 4."""
    return struct.pack("<HxxI", count, program)


def kept(memory, size):
    """Puts a program into memory that keeps so many bytes of a packet: BPF_RET | BPF_K."""
    return memory.put(struct.pack("<HBBI", 0x06, 0, 0, size))


@behaviour(
    "options.layout.filter",
    "socket(7) SO_ATTACH_FILTER; struct compat_sock_fprog; copy_bpf_fprog_from_user",
)
def test_filter(prepare, memory, calls, expect):
    """SO_ATTACH_FILTER takes a struct sock_fprog of 8 bytes, whose program is in force then; any other length fails with
    EINVAL, also that of x86-64, 16 bytes, and an unreadable program with EFAULT. SO_DETACH_FILTER ends it.
    """
    end = prepare("connected", UDP)
    program = kept(memory, 8 + 2)
    value = fprog(1, program.address)
    for size in (0, 4, 7, 9, 12, 16, 24):
        padded = value.ljust(size, b"\0")[:size]
        expect(-EINVAL, length=size).of(calls.setsockopt(end.fd, SOL_SOCKET, SO_ATTACH_FILTER, padded))
    wide = struct.pack("<HxxxxxxQ", 1, program.address)
    expect(-EINVAL, layout="x86-64").of(calls.setsockopt(end.fd, SOL_SOCKET, SO_ATTACH_FILTER, wide))
    bad = fprog(1, memory.unmapped())
    expect(-EFAULT, program="no-access").of(calls.setsockopt(end.fd, SOL_SOCKET, SO_ATTACH_FILTER, bad))
    empty = fprog(0, program.address)
    expect(-EINVAL, program="empty").of(calls.setsockopt(end.fd, SOL_SOCKET, SO_ATTACH_FILTER, empty))
    expect(0, length=8).of(calls.setsockopt(end.fd, SOL_SOCKET, SO_ATTACH_FILTER, value))
    for case, data in {"attached": b"fi", "detached": b"filtered"}.items():
        if case == "detached":
            expect(0, filter=case).of(calls.setsockopt(end.fd, SOL_SOCKET, SO_DETACH_FILTER, 0))
        room = memory.alloc(16)
        check = expect([len(data), data], filter=case, then="received")
        end.send(end.peer, b"filtered")
        result = calls.make("recv", end.fd, room, 16, 0)
        check.of([result, room.read()[: max(0, result)]], result)


@behaviour("options.layout.reuseport-filter", "socket(7) SO_ATTACH_REUSEPORT_CBPF; copy_bpf_fprog_from_user")
def test_reuseport_filter(new_socket, memory, calls, expect):
    """SO_ATTACH_REUSEPORT_CBPF takes a struct sock_fprog of 8 bytes, and chooses by its program which socket of a group
    receives; any other length fails with EINVAL.
    """
    group = [new_socket(*UDP.triple) for _ in range(2)]
    for member in group:
        need(member.setsockopt(SOL_SOCKET, socket.SO_REUSEPORT, 1), "SO_REUSEPORT")
        need(member.bind(UDP.address(5000)), "bind")
    sender = new_socket(*UDP.triple)
    for size in (4, 7, 12, 16):
        value = fprog(1, kept(memory, 0).address).ljust(size, b"\0")[:size]
        expect(-EINVAL, length=size).of(group[0].setsockopt(SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, value))
    for index, member in enumerate(group):
        value = fprog(1, kept(memory, index).address)
        attached = expect(0, member=index)
        result = group[0].setsockopt(SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, value)
        attached.of(result)
        # Without it the kernel's choice, by a secret hash, may be another one, and this one waits for ever.
        need(result, "SO_ATTACH_REUSEPORT_CBPF")
        check = expect(1, member=index, then="received")
        data, name = calls.pointer(b"r"), memory.put(UDP.address(5000))
        need(calls.make("sendto", sender, data, 1, 0, name, 16), "sendto", returns=1)
        check.of(calls.make("recv", member, memory.alloc(4), 4, 0))


def group_of(kind, last):
    """Returns the level of a kind, and a multicast address of it in a sockaddr_storage."""
    if kind is UDP:
        return socket.IPPROTO_IP, inet(f"239.1.2.{last}", 0).ljust(128, b"\0")
    return socket.IPPROTO_IPV6, inet6(f"ff15::{last}", 0).ljust(128, b"\0")


@behaviour("options.layout.group", "ip(7) IP_ADD_MEMBERSHIP; RFC 3678; struct compat_group_req; do_ip_setsockopt")
@each_kind
def test_group(kind, new_socket, calls, expect):
    """MCAST_JOIN_GROUP and MCAST_LEAVE_GROUP take 132 bytes and more: the interface, and the address at offset 4. 128 bytes
    fail with EINVAL; with the address at offset 8, as on x86-64, the family is read as 0 and refused.
    """
    level, address = group_of(kind, 3)
    member = new_socket(*kind.triple)
    head = struct.pack("<I", LOOPBACK)
    wrong = {
        "128": (head + address)[:128],
        "131": (head + address)[:131],
        "4": head,
        "offset-8": head + bytes(4) + address,
    }
    for case, value in wrong.items():
        error = NO_FAMILY[kind] if case == "offset-8" else EINVAL
        expect(-error, option="join", length=case).of(member.setsockopt(level, JOIN_GROUP, value))
    for size in (132, 136, 140):
        value = (head + address).ljust(size, b"\0")
        expect(0, option="join", length=size).of(member.setsockopt(level, JOIN_GROUP, value))
        short = expect(-EINVAL, option="leave", length=f"128-after-{size}")
        short.of(member.setsockopt(level, LEAVE_GROUP, value[:128]))
        expect(0, option="leave", length=size).of(member.setsockopt(level, LEAVE_GROUP, value))
        again = expect(-EADDRNOTAVAIL, option="leave-again", length=size)
        again.of(member.setsockopt(level, LEAVE_GROUP, value))


@behaviour("options.layout.source", "ip(7) IP_ADD_SOURCE_MEMBERSHIP; RFC 3678; struct compat_group_source_req")
@each_kind
def test_source(kind, new_socket, expect):
    """MCAST_JOIN_SOURCE_GROUP and its relatives take 260 bytes: the interface, the group at offset 4, the source at 132; 256
    bytes fail with EINVAL; in the layout of x86-64 the group's family is read as 0 and refused.
    """
    level, address = group_of(kind, 4)
    source = inet("127.0.0.9", 0) if kind is UDP else inet6("2001:db8::9", 0)
    value = struct.pack("<I", LOOPBACK) + address + source.ljust(128, b"\0")
    wide = struct.pack("<Ixxxx", LOOPBACK) + address + source.ljust(128, b"\0")
    member = new_socket(*kind.triple)
    names = {"join-source": JOIN_SOURCE_GROUP, "leave-source": LEAVE_SOURCE_GROUP}
    for name, number in names.items():
        for case, wrong in {"256": value[:256], "259": value[:259], "x86-64": wide}.items():
            error = NO_FAMILY[kind] if case == "x86-64" else EINVAL
            expect(-error, option=name, length=case).of(member.setsockopt(level, number, wrong))
        expect(0, option=name, length="260").of(member.setsockopt(level, number, value))
    need(member.setsockopt(level, JOIN_GROUP, value[:132]), "MCAST_JOIN_GROUP")
    for name, number in {"block": BLOCK_SOURCE, "unblock": UNBLOCK_SOURCE}.items():
        expect(-EINVAL, option=name, length="256").of(member.setsockopt(level, number, value[:256]))
        expect(0, option=name, length="260").of(member.setsockopt(level, number, value))


@behaviour("options.layout.ifconf", "netdevice(7) SIOCGIFCONF; struct compat_ifconf; dev_ifconf, inet_gifconf")
@pytest.mark.routes("direct")
def test_ifconf(new_socket, memory, calls, expect):
    """SIOCGIFCONF takes a length and a pointer, 8 bytes, and writes records of 32 bytes: 16 of the name, 16 of the address.
    With a NULL pointer it writes the length that all need; a room for no whole record gets none.
    """
    sock = new_socket(*UDP.triple)
    record = b"lo".ljust(16, b"\0") + inet("127.0.0.1", 0)
    request = memory.put(struct.pack("<iI", 0, 0) + BEHIND)
    check = expect([0, struct.pack("<iI", IFREQ, 0) + BEHIND], room="null")
    result = calls.syscall("ioctl", sock, SIOCGIFCONF, request)
    check.of([result, request.read()], result)
    for room in (0, 31, 32, 40, 63, 64):
        records = memory.alloc(room + 16)
        request = memory.put(struct.pack("<iI", room, records.address))
        size = IFREQ if room >= IFREQ else 0
        check = expect([0, size, record[:size] + bytes([POISON]) * (room + 16 - size)], room=room)
        result = calls.syscall("ioctl", sock, SIOCGIFCONF, request)
        check.of([result, request.words()[0], records.read()], result)
    expect(-EFAULT, request="no-access").of(calls.syscall("ioctl", sock, SIOCGIFCONF, memory.unmapped()))
    short = memory.guarded(struct.pack("<i", 0))
    expect(-EFAULT, request="4-bytes").of(calls.syscall("ioctl", sock, SIOCGIFCONF, short))


@behaviour("options.layout.ifreq", "netdevice(7); struct compat_ifreq; get_user_ifreq, put_user_ifreq")
@pytest.mark.routes("direct")
def test_ifreq(new_socket, memory, calls, expect):
    """A struct ifreq has 32 bytes: SIOCGIFINDEX and SIOCGIFNAME read and write as many, memory that ends there is enough."""
    sock = new_socket(*UDP.triple)
    for case, number, before, after in (
        (
            "index",
            SIOCGIFINDEX,
            b"lo".ljust(16, b"\0") + bytes(16),
            b"lo".ljust(16, b"\0") + struct.pack("<i", LOOPBACK),
        ),
        (
            "name",
            SIOCGIFNAME,
            bytes(16) + struct.pack("<i", LOOPBACK),
            b"lo".ljust(16, b"\0") + struct.pack("<i", LOOPBACK),
        ),
    ):
        request = memory.guarded(before.ljust(IFREQ, b"\0"))
        check = expect([0, after.ljust(IFREQ, b"\0")], request=case)
        result = calls.syscall("ioctl", sock, number, request)
        check.of([result, request.read()], result)
        short = memory.guarded(before.ljust(IFREQ, b"\0")[:31])
        expect(-EFAULT, request=case, bytes=31).of(calls.syscall("ioctl", sock, number, short))


@behaviour("options.layout.stamp", "socket(7) SIOCGSTAMP; include/uapi/asm-generic/sockios.h; sock_gettstamp")
@pytest.mark.routes("direct")
@each_kind
def test_stamp(kind, prepare, memory, calls, clock, expect):
    """SIOCGSTAMP and SIOCGSTAMPNS fail with ENOENT before a packet was received, then write the time of the last one, the
    same in each form: 8 bytes by the old numbers, 16 by the new, in microseconds and nanoseconds.
    """
    end = prepare("connected", kind)
    forms = {
        "stamp-old": (SIOCGSTAMP_OLD, "<ii", 1000), "stamp-new": (SIOCGSTAMP_NEW, "<qq", 1000),
        "stampns-old": (SIOCGSTAMPNS_OLD, "<ii", 1), "stampns-new": (SIOCGSTAMPNS_NEW, "<qq", 1),
    }  # fmt: skip
    for name, (number, _, _) in forms.items():
        expect(-ENOENT, request=name, packet="none").of(calls.syscall("ioctl", end.fd, number, memory.alloc(16)))
    before = clock()
    end.send(end.peer, b"t")
    need(calls.make("recv", end.fd, memory.alloc(4), 4, 0), "recv", returns=1)
    first = memory.alloc(16)
    arrived = expect([0, True], request="stampns-new", time="of-the-packet")
    result = calls.syscall("ioctl", end.fd, SIOCGSTAMPNS_NEW, first)
    seconds, nanoseconds = struct.unpack("<qq", first.read())
    arrived.of([result, before <= seconds * 10**9 + nanoseconds <= clock() and 0 <= nanoseconds < 10**9], result)
    for name, (number, layout, unit) in forms.items():
        block = memory.put(BEHIND * 2)
        check = expect([0, True, len(BEHIND) * 2 - struct.calcsize(layout)], request=name, packet="received")
        result = calls.syscall("ioctl", end.fd, number, block)
        same = struct.unpack_from(layout, block.read()) == (seconds, nanoseconds // unit)
        behind = block.read()[struct.calcsize(layout) :]
        check.of([result, same, behind.count(POISON)], result)


@behaviour(
    "options.layout.msfilter",
    "RFC 3678 MCAST_MSFILTER; struct compat_group_filter; ip_set_mcast_msfilter",
)
@each_kind
def test_msfilter(kind, new_socket, memory, calls, expect):
    """MCAST_MSFILTER has a head of 140 bytes, with the group at offset 4, mode and number at 132, and 128 bytes for each
    source: shorter it fails with EINVAL. getsockopt writes mode, number, and the sources that fit, in that layout.
    """
    level, group = group_of(kind, 5)
    hosts = ("127.0.0.7", "127.0.0.8") if kind is UDP else ("2001:db8::7", "2001:db8::8")
    sources = [(inet if kind is UDP else inet6)(host, 0).ljust(128, b"\0") for host in hosts]
    head = struct.pack("<I", LOOPBACK) + group
    member = new_socket(*kind.triple)
    need(member.setsockopt(level, JOIN_GROUP, head), "MCAST_JOIN_GROUP")
    whole = head + struct.pack("<II", INCLUDE, 2) + b"".join(sources)
    for size in (0, 132, 139, 140, 268, 395):
        expect(-EINVAL, length=size).of(member.setsockopt(level, MSFILTER, whole[:size]))
    expect(0, length=396).of(member.setsockopt(level, MSFILTER, whole))
    for count in (0, 1, 2, 3):
        room = memory.put(head + struct.pack("<II", 0, count) + bytes([POISON]) * 128 * count + BEHIND)
        length = memory.words(140 + 128 * count)
        fitting = b"".join(sources[:count])
        written = head + struct.pack("<II", INCLUDE, 2) + fitting + bytes([POISON]) * 128 * (count - min(count, 2))
        check = expect([0, 140 + len(fitting), written + BEHIND], read=count)
        result = calls.make("getsockopt", member, level, MSFILTER, room, length)
        check.of([result, length.words()[0], room.read()], result)
    for size in (139, 4):
        length = memory.words(size)
        check = expect(-EINVAL, read="short", length=size)
        check.of(calls.make("getsockopt", member, level, MSFILTER, memory.put(whole), length))


@behaviour(
    "options.layout.ip-msfilter",
    "ip(7) IP_MSFILTER, IP_MSFILTER_SIZE; ip_mc_msfilter, ip_mc_msfget",
)
def test_ip_msfilter(new_socket, memory, calls, expect):
    """IP_MSFILTER has 16 bytes, group, interface, mode and number, and 4 for each source: shorter it fails with EINVAL.
    getsockopt writes mode, number, and the sources that fit; a new member excludes none.
    """
    member, level = new_socket(*UDP.triple), socket.IPPROTO_IP
    group, here = socket.inet_aton("239.1.2.6"), socket.inet_aton("127.0.0.1")
    sources = [socket.inet_aton(host) for host in ("127.0.0.7", "127.0.0.8")]
    need(member.setsockopt(level, socket.IP_ADD_MEMBERSHIP, group + here), "IP_ADD_MEMBERSHIP")
    initial, length = memory.put(group + here + struct.pack("<II", INCLUDE, 0) + BEHIND), memory.words(16)
    check = expect([0, 16, group + here + struct.pack("<II", EXCLUDE, 0) + BEHIND], read="initial")
    result = calls.make("getsockopt", member, level, IP_MSFILTER, initial, length)
    check.of([result, length.words()[0], initial.read()], result)
    whole = group + here + struct.pack("<II", INCLUDE, 2) + b"".join(sources)
    for size in (0, 8, 15, 16, 20, 23):
        expect(-EINVAL, length=size).of(member.setsockopt(level, IP_MSFILTER, whole[:size]))
    expect(0, length=24).of(member.setsockopt(level, IP_MSFILTER, whole))
    for count in (0, 1, 2, 3):
        room = memory.put(group + here + struct.pack("<II", 0, count) + bytes([POISON]) * 4 * count + BEHIND)
        length = memory.words(16 + 4 * count)
        fitting = b"".join(sources[:count])
        written = whole[:16] + fitting + bytes([POISON]) * 4 * (count - min(count, 2))
        check = expect([0, 16 + len(fitting), written + BEHIND], read=count)
        result = calls.make("getsockopt", member, level, IP_MSFILTER, room, length)
        check.of([result, length.words()[0], room.read()], result)
