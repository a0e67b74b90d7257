"""Requests about links: those whose struct ifreq holds a pointer or a structure with longs, flags, and groups."""

import socket
import struct
from errno import EFAULT, EINVAL, ENODEV, ENOENT, EOPNOTSUPP, EPERM

import pytest

from probes.entry.memory import OutOfMemory
from probes.testing import behaviour, not_applicable, procfs
from probes.testing.socket_kinds import UDP
from tests.transfer.caller_files import request as route_request

pytestmark = pytest.mark.routes("direct")

#: include/uapi/linux/sockios.h, ethtool.h.
SIOCETHTOOL, SIOCGIFMAP = 0x8946, 0x8970
GET_LINK, UNKNOWN = 0x0A, 0xFFFF
#: struct ethtool_value: a command and a number.
VALUE = struct.Struct("<II")
#: Bytes of a union that the kernel does not write: they stay as they were.
FILL = b"\xa5"
#: include/uapi/linux/sockios.h, include/uapi/linux/if.h.
SIOCGIFFLAGS, SIOCSIFFLAGS, SIOCADDMULTI, SIOCDELMULTI = 0x8913, 0x8914, 0x8931, 0x8932
IFF_UP, IFF_LOOPBACK, IFF_RUNNING, IFF_PROMISC, IFF_ALLMULTI = 0x1, 0x8, 0x40, 0x100, 0x200
NEWLINK = 16
#: struct ifreq with ifr_flags.
IFREQ = struct.Struct("<16sH14x")
#: A multicast address of Ethernet that no other socket of a sandbox joins.
GROUP = bytes.fromhex("0180c2000042")


def request(pointer, name=b"lo"):
    """Packs a struct ifreq whose ifr_data is a pointer: 32 bytes."""
    return name.ljust(16, b"\0") + struct.pack("<I", int(pointer)) + bytes(12)


@pytest.fixture
def link_with_groups(prepare):
    """Returns the name of a link whose driver receives groups: one of a pair (veth(4)). Not applicable without them."""
    body = struct.pack("<BxHiII", 0, 0, 0, 0, 0)
    # IFLA_IFNAME; IFLA_LINKINFO with IFLA_INFO_KIND.
    body += struct.pack("<HH8s", 10, 3, b"pair0") + struct.pack("<HHHH4s", 12, 18, 8, 1, b"veth")
    if route_request(prepare, NEWLINK, body):
        not_applicable("links of the kind veth")
    return b"pair0"


@behaviour("options.layout.pointer", "netdevice(7) ifr_data; ethtool.h; get_user_ifreq, compat_ptr, dev_ethtool")
def test_pointer(new_socket, caller, memory, calls, expect):
    """ifr_data is a pointer of 4 bytes, at offset 16 of struct ifreq, to memory that the request reads and writes:
    SIOCETHTOOL writes there whether the link is up, also above 2 GiB, and leaves struct ifreq. EFAULT is the answer to
    memory that cannot be read or written, EOPNOTSUPP to an unknown command, ENODEV to no link.
    """
    sock = new_socket(*UDP.triple)
    places = {"low": memory.alloc(VALUE.size)}
    try:
        places["high"] = memory.at(0x80000000, 4096).part(0, VALUE.size)
    except OutOfMemory:
        not_applicable("memory at 0x80000000")
    for case, block in places.items():
        block.write(VALUE.pack(GET_LINK, 7))
        ifreq = memory.guarded(request(block))
        check = expect([0, VALUE.pack(GET_LINK, 1), request(block)], pointer=case)
        result = calls.syscall("ioctl", sock, SIOCETHTOOL, ifreq)
        check.of([int(result), block.read(), ifreq.read()], result)
    bad = {"no-access": memory.unmapped(), "null": 0, "half": memory.guarded(VALUE.pack(GET_LINK, 7)[:6])}
    for case, pointer in bad.items():
        expect(-EFAULT, pointer=case).of(calls.syscall("ioctl", sock, SIOCETHTOOL, memory.put(request(pointer))))
    none = memory.put(request(places["low"], b"none"))
    expect(-ENODEV, link="none").of(calls.syscall("ioctl", sock, SIOCETHTOOL, none))
    # dev_ethtool asks for this capability before it looks for a command that is none of those for all.
    caller.keep_capabilities(["CAP_NET_ADMIN"])
    unknown = memory.put(VALUE.pack(UNKNOWN, 0))
    expect(-EOPNOTSUPP, command="unknown").of(calls.syscall("ioctl", sock, SIOCETHTOOL, memory.put(request(unknown))))


@behaviour("options.layout.ifmap", "netdevice(7) SIOCGIFMAP; struct compat_ifmap; dev_ifmap `in_compat_syscall`")
def test_ifmap(new_socket, memory, calls, expect):
    """SIOCGIFMAP writes a struct ifmap with two longs of 4 bytes, 13 bytes without its padding, and none behind them: the
    loopback link has zeros.
    """
    sock = new_socket(*UDP.triple)
    ifreq = memory.guarded(b"lo".ljust(16, b"\0") + FILL * 16)
    check = expect([0, b"lo".ljust(16, b"\0"), bytes(13), FILL * 3])
    result = calls.syscall("ioctl", sock, SIOCGIFMAP, ifreq)
    data = ifreq.read()
    check.of([int(result), data[:16], data[16:29], data[29:]], result)


@behaviour("options.interface.flags", "packet(7) SIOCSIFFLAGS; netdevice(7) SIOCSIFFLAGS, IFF_PROMISC; dev_ifsioc")
def test_flags(new_socket, memory, calls, caller, expect):
    """SIOCSIFFLAGS sets IFF_PROMISC and IFF_ALLMULTI of a link, which SIOCGIFFLAGS reads, and ends them; without
    CAP_NET_ADMIN it fails with EPERM, and of no link with ENODEV.
    """
    sock, up = new_socket(*UDP.triple), IFF_UP | IFF_LOOPBACK | IFF_RUNNING
    for step, flags in (
        ("promisc", IFF_PROMISC),
        ("allmulti", IFF_ALLMULTI),
        ("both", IFF_PROMISC | IFF_ALLMULTI),
        ("none", 0),
    ):
        check = expect([0, 0, IFREQ.pack(b"lo", up | flags)], step=step)
        result = calls.syscall("ioctl", sock, SIOCSIFFLAGS, memory.put(IFREQ.pack(b"lo", IFF_UP | flags)))
        block = memory.guarded(IFREQ.pack(b"lo", 0))
        read = calls.syscall("ioctl", sock, SIOCGIFFLAGS, block)
        check.of([int(result), int(read), block.read()], result, read)
    none = memory.put(IFREQ.pack(b"none", IFF_UP))
    for request_, step in ((SIOCGIFFLAGS, "read"), (SIOCSIFFLAGS, "set")):
        expect(-ENODEV, link="none", step=step).of(calls.syscall("ioctl", sock, request_, none))
    caller.keep_capabilities(())
    lo = memory.put(IFREQ.pack(b"lo", IFF_UP | IFF_PROMISC))
    expect(-EPERM, privilege="none", step="set").of(calls.syscall("ioctl", sock, SIOCSIFFLAGS, lo))
    expect(0, privilege="none", step="read").of(calls.syscall("ioctl", sock, SIOCGIFFLAGS, lo))


@behaviour(
    "options.interface.groups", "packet(7) SIOCADDMULTI, SIOCDELMULTI; netdevice(7); dev_ifsioc, dev_mc_add_global"
)
def test_groups(link_with_groups, new_socket, memory, calls, caller, expect):
    """SIOCADDMULTI lets a link receive a hardware address, until SIOCDELMULTI, also if it was added twice; leaving what was
    not added fails with ENOENT, an address whose family is not AF_UNSPEC with EINVAL, and no link with ENODEV. Without
    CAP_NET_ADMIN both fail with EPERM.
    """
    sock = new_socket(*UDP.triple)

    def ifreq(name=link_with_groups, family=socket.AF_UNSPEC):
        """Packs a struct ifreq with a hardware address."""
        return memory.put(struct.pack("<16sH6s8x", name, family, GROUP))

    for step, number, result, there in (
        ("add", SIOCADDMULTI, 0, True), ("add-again", SIOCADDMULTI, 0, True), ("leave", SIOCDELMULTI, 0, False),
        ("leave-again", SIOCDELMULTI, -ENOENT, False),
    ):  # fmt: skip
        check = expect([result, there], step=step)
        done = calls.syscall("ioctl", sock, number, ifreq())
        check.of([int(done), GROUP.hex() in procfs.link_groups()], done)
    for step, number in (("add", SIOCADDMULTI), ("leave", SIOCDELMULTI)):
        expect(-EINVAL, step=step, family="ethernet").of(calls.syscall("ioctl", sock, number, ifreq(family=1)))
        expect(-ENODEV, step=step, link="none").of(calls.syscall("ioctl", sock, number, ifreq(b"none")))
    caller.keep_capabilities(())
    for step, number in (("add", SIOCADDMULTI), ("leave", SIOCDELMULTI)):
        expect(-EPERM, step=step, privilege="none").of(calls.syscall("ioctl", sock, number, ifreq()))
