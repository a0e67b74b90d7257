"""Memory layouts of the i386 ABI, the same whatever word size Python itself has.

Source: the uapi headers named at each structure. On i386 a pointer and a long are 32 bits and no member is aligned to
more than four bytes (System V i386 psABI, table 2.1), which is all that `_pack_ = 4` says. Addresses and ports in
network byte order are bytes or big-endian members, everything else is little-endian.
"""

from __future__ import annotations

from ctypes import LittleEndianStructure, Union, c_char, c_int16, c_int32, c_int64, c_uint8, c_uint16, c_uint32

Pointer = c_uint32
Long = c_int32
Size = c_uint32
#: Network byte order.
Net16 = c_uint16.__ctype_be__
Net32 = c_uint32.__ctype_be__

IFNAMSIZ = 16
UNIX_PATH_MAX = 108
FD_SETSIZE = 1024


class I386(LittleEndianStructure):
    """A structure as gcc -m32 lays it out. Python 3.14 wants `_layout_` said where `_pack_` is; older ones ignore it.
    ("ms" differs from gcc in bit-fields only, and none of these has any.)"""

    _pack_ = 4
    _layout_ = "ms"


# Addresses


class SockaddrIn(I386):
    """include/uapi/linux/in.h, ip(7)."""

    _fields_ = (("sin_family", c_uint16), ("sin_port", Net16), ("sin_addr", c_uint8 * 4), ("sin_zero", c_uint8 * 8))


class SockaddrIn6(I386):
    """include/uapi/linux/in6.h, ipv6(7). `sin6_scope_id` is in host byte order."""

    _fields_ = (("sin6_family", c_uint16), ("sin6_port", Net16), ("sin6_flowinfo", Net32),
                ("sin6_addr", c_uint8 * 16), ("sin6_scope_id", c_uint32))  # fmt: skip


class SockaddrUn(I386):
    """include/uapi/linux/un.h, unix(7)."""

    _fields_ = (("sun_family", c_uint16), ("sun_path", c_uint8 * UNIX_PATH_MAX))


class SockaddrNl(I386):
    """include/uapi/linux/netlink.h, netlink(7)."""

    _fields_ = (("nl_family", c_uint16), ("nl_pad", c_uint16), ("nl_pid", c_uint32), ("nl_groups", c_uint32))


class SockaddrLl(I386):
    """include/uapi/linux/if_packet.h, packet(7)."""

    _fields_ = (("sll_family", c_uint16), ("sll_protocol", Net16), ("sll_ifindex", c_int32), ("sll_hatype", c_uint16),
                ("sll_pkttype", c_uint8), ("sll_halen", c_uint8), ("sll_addr", c_uint8 * 8))  # fmt: skip


class SockaddrVm(I386):
    """include/uapi/linux/vm_sockets.h, vsock(7)."""

    _fields_ = (("svm_family", c_uint16), ("svm_reserved1", c_uint16), ("svm_port", c_uint32), ("svm_cid", c_uint32),
                ("svm_flags", c_uint8), ("svm_zero", c_uint8 * 3))  # fmt: skip


class Sockaddr(I386):
    """include/linux/socket.h."""

    _fields_ = (("sa_family", c_uint16), ("sa_data", c_uint8 * 14))


class SockaddrStorage(I386):
    """include/uapi/linux/socket.h struct __kernel_sockaddr_storage."""

    _fields_ = (("ss_family", c_uint16), ("ss_data", c_uint8 * 126))


# Messages


class Iovec(I386):
    """include/uapi/linux/uio.h; include/linux/compat.h struct compat_iovec."""

    _fields_ = (("iov_base", Pointer), ("iov_len", Size))


class Msghdr(I386):
    """include/linux/socket.h struct user_msghdr; include/net/compat.h struct compat_msghdr."""

    _fields_ = (("msg_name", Pointer), ("msg_namelen", c_int32), ("msg_iov", Pointer), ("msg_iovlen", Size),
                ("msg_control", Pointer), ("msg_controllen", Size), ("msg_flags", c_uint32))  # fmt: skip


class Mmsghdr(I386):
    """include/linux/socket.h; include/net/compat.h struct compat_mmsghdr."""

    _fields_ = (("msg_hdr", Msghdr), ("msg_len", c_uint32))


class Cmsghdr(I386):
    """include/linux/socket.h; include/net/compat.h struct compat_cmsghdr. Data follows at once, entries are aligned
    to four bytes."""

    _fields_ = (("cmsg_len", Size), ("cmsg_level", c_int32), ("cmsg_type", c_int32))


class Ucred(I386):
    """include/linux/socket.h; SCM_CREDENTIALS, SO_PEERCRED, unix(7)."""

    _fields_ = (("pid", c_int32), ("uid", c_uint32), ("gid", c_uint32))


# Time


class Timeval(I386):
    """The 32-bit timeval: include/linux/time32.h struct old_timeval32; SO_RCVTIMEO_OLD, select."""

    _fields_ = (("tv_sec", Long), ("tv_usec", Long))


class Timespec(I386):
    """The 32-bit timespec: include/vdso/time32.h struct old_timespec32; recvmmsg, ppoll, pselect6."""

    _fields_ = (("tv_sec", Long), ("tv_nsec", Long))


class SockTimeval(I386):
    """include/uapi/linux/time_types.h struct __kernel_sock_timeval; SO_RCVTIMEO_NEW."""

    _fields_ = (("tv_sec", c_int64), ("tv_usec", c_int64))


# Option values


class Linger(I386):
    """include/linux/socket.h; SO_LINGER, socket(7)."""

    _fields_ = (("l_onoff", c_int32), ("l_linger", c_int32))


class IpMreq(I386):
    """include/uapi/linux/in.h; IP_ADD_MEMBERSHIP, ip(7)."""

    _fields_ = (("imr_multiaddr", c_uint8 * 4), ("imr_interface", c_uint8 * 4))


class IpMreqn(I386):
    """include/uapi/linux/in.h; IP_ADD_MEMBERSHIP, IP_MULTICAST_IF, ip(7)."""

    _fields_ = (("imr_multiaddr", c_uint8 * 4), ("imr_address", c_uint8 * 4), ("imr_ifindex", c_int32))


class IpMreqSource(I386):
    """include/uapi/linux/in.h; IP_ADD_SOURCE_MEMBERSHIP, ip(7)."""

    _fields_ = (("imr_multiaddr", c_uint8 * 4), ("imr_interface", c_uint8 * 4), ("imr_sourceaddr", c_uint8 * 4))


class InPktinfo(I386):
    """include/uapi/linux/in.h; IP_PKTINFO, ip(7)."""

    _fields_ = (("ipi_ifindex", c_int32), ("ipi_spec_dst", c_uint8 * 4), ("ipi_addr", c_uint8 * 4))


class Ipv6Mreq(I386):
    """include/uapi/linux/in6.h; IPV6_ADD_MEMBERSHIP, ipv6(7)."""

    _fields_ = (("ipv6mr_multiaddr", c_uint8 * 16), ("ipv6mr_ifindex", c_int32))


class In6Pktinfo(I386):
    """include/uapi/linux/ipv6.h; IPV6_PKTINFO, ipv6(7)."""

    _fields_ = (("ipi6_addr", c_uint8 * 16), ("ipi6_ifindex", c_int32))


class GroupReq(I386):
    """include/uapi/linux/in.h; MCAST_JOIN_GROUP. 132 bytes here, 136 on x86-64: the address is aligned to a long."""

    _fields_ = (("gr_interface", c_uint32), ("gr_group", SockaddrStorage))


class GroupSourceReq(I386):
    """include/uapi/linux/in.h; MCAST_JOIN_SOURCE_GROUP."""

    _fields_ = (("gsr_interface", c_uint32), ("gsr_group", SockaddrStorage), ("gsr_source", SockaddrStorage))


class PacketMreq(I386):
    """include/uapi/linux/if_packet.h; PACKET_ADD_MEMBERSHIP, packet(7)."""

    _fields_ = (("mr_ifindex", c_int32), ("mr_type", c_uint16), ("mr_alen", c_uint16),
                ("mr_address", c_uint8 * 8))  # fmt: skip


class SockFprog(I386):
    """include/uapi/linux/filter.h; SO_ATTACH_FILTER, socket(7)."""

    _fields_ = (("len", c_uint16), ("filter", Pointer))


class SockFilter(I386):
    """include/uapi/linux/filter.h."""

    _fields_ = (("code", c_uint16), ("jt", c_uint8), ("jf", c_uint8), ("k", c_uint32))


class SockExtendedErr(I386):
    """include/uapi/linux/errqueue.h; IP_RECVERR, ip(7)."""

    _fields_ = (("ee_errno", c_uint32), ("ee_origin", c_uint8), ("ee_type", c_uint8), ("ee_code", c_uint8),
                ("ee_pad", c_uint8), ("ee_info", c_uint32), ("ee_data", c_uint32))  # fmt: skip


# Plain calls


class Pollfd(I386):
    """include/uapi/asm-generic/poll.h, poll(2)."""

    _fields_ = (("fd", c_int32), ("events", c_int16), ("revents", c_int16))


class FdSet(I386):
    """include/uapi/linux/posix_types.h: 32 longs of 32 bits on i386, select(2)."""

    _fields_ = (("fds_bits", c_uint32 * (FD_SETSIZE // 32)),)


class PselectSigmask(I386):
    """The sixth argument of pselect6: fs/select.c struct compat_sigset_argpack, select(2)."""

    _fields_ = (("ss", Pointer), ("ss_len", Size))


class FOwnerEx(I386):
    """include/uapi/asm-generic/fcntl.h; F_SETOWN_EX, fcntl(2)."""

    _fields_ = (("type", c_int32), ("pid", c_int32))


class Ifmap(I386):
    """include/uapi/linux/if.h; SIOCGIFMAP, netdevice(7). Longs of 32 bits: 16 bytes here, 24 on x86-64."""

    _fields_ = (("mem_start", c_uint32), ("mem_end", c_uint32), ("base_addr", c_uint16), ("irq", c_uint8),
                ("dma", c_uint8), ("port", c_uint8), ("pad", c_uint8 * 3))  # fmt: skip


class _Ifru(Union):
    _fields_ = (("ifr_addr", Sockaddr), ("ifr_flags", c_int16), ("ifr_ivalue", c_int32),
                ("ifr_newname", c_char * IFNAMSIZ), ("ifr_map", Ifmap), ("ifr_data", Pointer))  # fmt: skip


class Ifreq(I386):
    """include/uapi/linux/if.h, netdevice(7). 32 bytes here, 40 on x86-64."""

    _anonymous_ = ("ifr_ifru",)
    _fields_ = (("ifr_name", c_char * IFNAMSIZ), ("ifr_ifru", _Ifru))


class Ifconf(I386):
    """include/uapi/linux/if.h; SIOCGIFCONF, netdevice(7)."""

    _fields_ = (("ifc_len", c_int32), ("ifc_buf", Pointer))
