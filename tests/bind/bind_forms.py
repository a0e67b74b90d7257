"""Packs the addresses that bind(2) takes, family by family, and names their shortest and longest length."""

import struct
from dataclasses import dataclass
from errno import EAFNOSUPPORT, EINVAL
from socket import AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_UNIX, AF_UNSPEC

from probes.testing import procfs
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

#: sizeof(struct sockaddr_storage): bind refuses a longer address (move_addr_to_kernel).
LONGEST = 128
ETH_P_ALL = 0x0003


def family_word(family: int) -> bytes:
    """Packs sa_family: the first two bytes of every address, in the order of the host."""
    return struct.pack("<H", family)


def inet(port: int, host: int = 0) -> bytes:
    """Packs a struct sockaddr_in."""
    return family_word(AF_INET) + struct.pack(">HI8x", port, host)


def inet6(port: int, host: bytes = bytes(16), scope: int = 0) -> bytes:
    """Packs a struct sockaddr_in6."""
    return family_word(AF_INET6) + struct.pack(">HI16s", port, 0, host) + struct.pack("<I", scope)


def unix(name: bytes) -> bytes:
    """Packs a struct sockaddr_un, as long as its name."""
    return family_word(AF_UNIX) + name


def netlink(port: int = 0, groups: int = 0) -> bytes:
    """Packs a struct sockaddr_nl."""
    return family_word(AF_NETLINK) + struct.pack("<HII", 0, port & 0xFFFFFFFF, groups)


def packet(protocol: int, link: int) -> bytes:
    """Packs a struct sockaddr_ll with the fields that bind uses: the protocol and the index of the link."""
    return family_word(AF_PACKET) + struct.pack(">H", protocol) + struct.pack("<i12x", link)


def selinux() -> bool:
    """Returns True if SELinux checks addresses before the family does (selinux_socket_bind).

    It then refuses an unknown family on a raw socket, as on any other socket of AF_INET and AF_INET6. Where SELinux is
    enabled its file system is registered (init_sel_fs).
    """
    return "selinuxfs" in procfs.filesystems()


#: Families that selinux_socket_bind leaves to raw sockets: an IPv4 one may have AF_UNSPEC and a wildcard address.
_PASSED = {RAW: (AF_UNSPEC, AF_INET6), RAW6: (AF_INET,)}


@dataclass(frozen=True)
class Form:
    """The address of a socket kind: one that can be bound, and the lengths that bind takes.

    `enough` is the shortest length, `most` the longest, `unchecked` the result of bind if sa_family is another one, which
    SELinux does not refuse.
    """

    kind: SocketKind
    good: bytes
    enough: int
    most: int
    unchecked: int

    @property
    def other_family(self) -> int:
        """Returns the result of bind if sa_family is another one."""
        return -EAFNOSUPPORT if self.kind in (RAW, RAW6) and selinux() else self.unchecked

    @property
    def passed(self) -> tuple[int, ...]:
        """Returns the other families that SELinux leaves to the family of the socket, where it checks addresses."""
        return _PASSED.get(self.kind, ()) if selinux() else ()

    @property
    def family(self) -> int:
        """Returns the sa_family that the address needs."""
        return int(self.kind.family)

    def __str__(self) -> str:
        """Returns the name of the socket kind."""
        return self.kind.name


#: SIN6_LEN_RFC2133: struct sockaddr_in6 without its scope.
FORMS = (
    Form(TCP, inet(0), 16, LONGEST, -EAFNOSUPPORT),
    Form(UDP, inet(0), 16, LONGEST, -EAFNOSUPPORT),
    Form(RAW, inet(0), 16, LONGEST, 0),
    Form(TCP6, inet6(0), 24, LONGEST, -EAFNOSUPPORT),
    Form(UDP6, inet6(0), 24, LONGEST, -EAFNOSUPPORT),
    Form(RAW6, inet6(0), 24, LONGEST, -EINVAL),
    # A length of 2 requests autobind; sun_path has 108 bytes.
    Form(UNIX_STREAM, unix(b"\0name"), 2, 110, -EINVAL),
    Form(UNIX_DGRAM, unix(b"\0name"), 2, 110, -EINVAL),
    Form(UNIX_SEQPACKET, unix(b"\0name"), 2, 110, -EINVAL),
    Form(NETLINK, netlink(), 12, LONGEST, -EINVAL),
    Form(PACKET, packet(ETH_P_ALL, 0), 20, LONGEST, -EINVAL),
    Form(PACKET_DGRAM, packet(ETH_P_ALL, 0), 20, LONGEST, -EINVAL),
)
