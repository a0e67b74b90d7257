"""What bind takes for an address, family by family."""

import struct
from dataclasses import dataclass
from errno import EAFNOSUPPORT, EINVAL
from pathlib import Path
from socket import AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_UNIX

from probes.testing.socket_kinds import (
    NETLINK,
    PACKET,
    PACKET_DGRAM,
    RAW,
    RAW6,
    TCP,
    TCP6,
    UDP,
    UDP6,
    UNIX_DGRAM,
    UNIX_SEQPACKET,
    UNIX_STREAM,
    SocketKind,
)

#: struct sockaddr_storage: no address is longer (move_addr_to_kernel).
LONGEST = 128
ETH_P_ALL = 0x0003


def family_word(family):
    """sa_family: the first two bytes of every address, in the machine's order."""
    return struct.pack("<H", family)


def inet(port, host=0):
    """struct sockaddr_in."""
    return family_word(AF_INET) + struct.pack(">HI8x", port, host)


def inet6(port, host=bytes(16), scope=0):
    """struct sockaddr_in6."""
    return family_word(AF_INET6) + struct.pack(">HI16s", port, 0, host) + struct.pack("<I", scope)


def unix(name):
    """struct sockaddr_un, as long as its name."""
    return family_word(AF_UNIX) + name


def netlink(port=0, groups=0):
    """struct sockaddr_nl."""
    return family_word(AF_NETLINK) + struct.pack("<HII", 0, port & 0xFFFFFFFF, groups)


def packet(protocol, link):
    """struct sockaddr_ll, with what bind looks at."""
    return family_word(AF_PACKET) + struct.pack(">H", protocol) + struct.pack("<i12x", link)


def selinux():
    """Whether SELinux looks at addresses first (selinux_socket_bind): where it is on it has registered its file system,
    init_sel_fs. It refuses an unknown family on a raw socket, as on any other of AF_INET and AF_INET6.
    """
    return "selinuxfs" in Path("/proc/filesystems").read_text().split()


@dataclass(frozen=True)
class Form:
    """The address of a kind of socket: one that can be bound, how many bytes of it are enough and how many too many,
    and what another family in it answers."""

    kind: SocketKind
    good: bytes
    enough: int
    most: int
    other_family: int

    @property
    def family(self):
        """The family that an address must say."""
        return int(self.kind.family)

    def __str__(self):
        return self.kind.name


#: SIN6_LEN_RFC2133: struct sockaddr_in6 without its scope.
FORMS = (
    Form(TCP, inet(0), 16, LONGEST, -EAFNOSUPPORT),
    Form(UDP, inet(0), 16, LONGEST, -EAFNOSUPPORT),
    Form(RAW, inet(0), 16, LONGEST, -EAFNOSUPPORT if selinux() else 0),
    Form(TCP6, inet6(0), 24, LONGEST, -EAFNOSUPPORT),
    Form(UDP6, inet6(0), 24, LONGEST, -EAFNOSUPPORT),
    Form(RAW6, inet6(0), 24, LONGEST, -EAFNOSUPPORT if selinux() else -EINVAL),
    # Two bytes ask for a name; a path has 108 bytes at most.
    Form(UNIX_STREAM, unix(b"\0name"), 2, 110, -EINVAL),
    Form(UNIX_DGRAM, unix(b"\0name"), 2, 110, -EINVAL),
    Form(UNIX_SEQPACKET, unix(b"\0name"), 2, 110, -EINVAL),
    Form(NETLINK, netlink(), 12, LONGEST, -EINVAL),
    Form(PACKET, packet(ETH_P_ALL, 0), 20, LONGEST, -EINVAL),
    Form(PACKET_DGRAM, packet(ETH_P_ALL, 0), 20, LONGEST, -EINVAL),
)
