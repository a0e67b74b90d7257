"""Defines structures of the i386 ABI, and of x86-64 where a capture meets them: sizes, members, decoding.

Source: the uapi headers named at each structure. On i386 a pointer and a long are 32 bits and no member is aligned to
more than four bytes (System V i386 psABI, table 2.1). Addresses and ports are in network byte order, everything else
is little-endian. Where a structure differs by word size, it is a dictionary of both: {32: …, 64: …}.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from probes.abi.record import Decoded
from probes.abi.sockaddr import describe

IFNAMSIZ = 16


@dataclass(frozen=True)
class Type:
    """Describes the type of a member: its struct format, and how an unpacked value is shown if not as it is."""

    code: str
    show: Callable[[int], Decoded] | Callable[[bytes], Decoded] | None = None


def octets(count: int) -> Type:
    """Make the type of an array of bytes, shown in hexadecimal."""
    return Type(f"{count}s", bytes.hex)


def ipv4(raw: bytes) -> str:
    """Format a struct in_addr: `127.0.0.1`."""
    return socket.inet_ntop(socket.AF_INET, raw)


def ipv6(raw: bytes) -> str:
    """Format a struct in6_addr: `::1`."""
    return socket.inet_ntop(socket.AF_INET6, raw)


def _window_scales(byte: int) -> Decoded:
    return {"snd": byte & 0xF, "rcv": byte >> 4}


U8, U16, U32, U64 = Type("B"), Type("H"), Type("I"), Type("Q")
INT, LONG64 = Type("i"), Type("q")
IN_ADDR, IN6_ADDR = Type("4s", ipv4), Type("16s", ipv6)
SOCKADDR_STORAGE = Type("128s", describe)  # include/uapi/linux/socket.h struct __kernel_sockaddr_storage
#: The same on x86-64, where it is aligned to a long: four bytes of padding before it.
_ALIGNED_STORAGE = Type("4x128s", describe)


class Layout:
    """Describes a structure: its members in order, by the names that the decoded form has."""

    def __init__(self, **members: Type) -> None:
        """Lay the members out one after another; padding is part of a member's format (`i4x`)."""
        self.members = members
        self.struct = struct.Struct("<" + "".join(member.code for member in members.values()))
        self.size = self.struct.size
        self.unpack = self.struct.unpack_from
        codes = [member.code for member in members.values()]
        self.offsets = [struct.calcsize("<" + "".join(codes[:index])) for index in range(len(codes))]

    def decode(self, raw: bytes) -> dict[str, Decoded]:
        """Decode the members of a whole structure."""
        values = self.unpack(raw)
        pairs = zip(self.members.items(), values, strict=True)
        return {name: value if member.show is None else member.show(value) for (name, member), value in pairs}

    def decode_beginning(self, raw: bytes) -> dict[str, Decoded]:
        """Decode the members that lie within the bytes there are; `more` counts the bytes behind them."""
        ends = [*self.offsets[1:], self.size]
        count = sum(end <= len(raw) for end in ends)
        kept = Layout(**dict(list(self.members.items())[:count]))
        return kept.decode(raw) | ({"more": len(raw) - kept.size} if len(raw) > kept.size else {})


def _both(layout: Layout) -> dict[int, Layout]:
    return {32: layout, 64: layout}


# Messages: include/linux/socket.h, include/net/compat.h, include/uapi/linux/uio.h

IOVEC = {32: Layout(base=U32, len=U32), 64: Layout(base=U64, len=U64)}
MSGHDR = {
    32: Layout(name=U32, namelen=INT, iov=U32, iovlen=U32, control=U32, controllen=U32, flags=U32),
    64: Layout(name=U64, namelen=Type("i4x"), iov=U64, iovlen=U64, control=U64, controllen=U64, flags=Type("I4x")),
}
MMSGHDR = {32: Layout(hdr=octets(28), len=U32), 64: Layout(hdr=octets(56), len=Type("I4x"))}
#: The data of a control message follows at once; the next message is aligned to a long.
CMSGHDR = {32: Layout(len=U32, level=INT, type=INT), 64: Layout(len=U64, level=INT, type=INT)}
UCRED = Layout(pid=INT, uid=U32, gid=U32)
#: include/uapi/linux/errqueue.h, ip(7) IP_RECVERR.
SOCK_EXTENDED_ERR = Layout(errno=U32, origin=U8, type=U8, code=U8, pad=U8, info=U32, data=U32)
IN_PKTINFO = Layout(ifindex=INT, spec_dst=IN_ADDR, addr=IN_ADDR)  # include/uapi/linux/in.h
IN6_PKTINFO = Layout(address=IN6_ADDR, ifindex=INT)  # include/uapi/linux/ipv6.h

# Time: include/vdso/time32.h, include/uapi/linux/time_types.h

#: struct old_timeval32 and the native one of x86-64; SO_RCVTIMEO_OLD, select.
TIMEVAL = {32: Layout(sec=INT, usec=INT), 64: Layout(sec=LONG64, usec=LONG64)}
#: struct old_timespec32 and the native one of x86-64; recvmmsg, ppoll, pselect6.
TIMESPEC = {32: Layout(sec=INT, nsec=INT), 64: Layout(sec=LONG64, nsec=LONG64)}
#: struct __kernel_sock_timeval and __kernel_timespec; SO_RCVTIMEO_NEW, SO_TIMESTAMPNS_NEW.
TIMEVAL_NEW, TIMESPEC_NEW = _both(TIMEVAL[64]), _both(TIMESPEC[64])


def _three_times(code: str) -> Layout:
    """Lay out three times, each a pair of seconds and nanoseconds; the second one is no longer used."""
    names = ("software", "legacy", "hardware")
    return Layout(**{f"{name}_{part}": Type(code) for name in names for part in ("sec", "nsec")})


#: include/uapi/linux/errqueue.h struct scm_timestamping, with members of a long; struct scm_timestamping64.
SCM_TIMESTAMPING = {32: _three_times("i"), 64: _three_times("q")}
SCM_TIMESTAMPING64 = _both(SCM_TIMESTAMPING[64])

# Option values: include/linux/socket.h, include/uapi/linux/in.h, in6.h, if_packet.h, filter.h, tcp.h

LINGER = Layout(onoff=INT, linger=INT)
IP_ADDRESS = Layout(address=IN_ADDR)
IP_MREQ = Layout(multiaddr=IN_ADDR, interface=IN_ADDR)
IP_MREQN = Layout(multiaddr=IN_ADDR, interface=IN_ADDR, ifindex=INT)
IP_MREQ_SOURCE = Layout(multiaddr=IN_ADDR, interface=IN_ADDR, sourceaddr=IN_ADDR)
IPV6_MREQ = Layout(address=IN6_ADDR, ifindex=INT)
GROUP_REQ = {32: Layout(interface=U32, group=SOCKADDR_STORAGE), 64: Layout(interface=U32, group=_ALIGNED_STORAGE)}
GROUP_SOURCE_REQ = {
    32: Layout(interface=U32, group=SOCKADDR_STORAGE, source=SOCKADDR_STORAGE),
    64: Layout(interface=U32, group=_ALIGNED_STORAGE, source=SOCKADDR_STORAGE),
}
#: The head of struct ip_msfilter; addresses of sources follow.
IP_MSFILTER = _both(Layout(multiaddr=IN_ADDR, interface=IN_ADDR, fmode=U32, numsrc=U32))
#: The head of struct group_filter; addresses of sources, each a sockaddr_storage, follow.
GROUP_FILTER = {
    32: Layout(interface=U32, group=SOCKADDR_STORAGE, fmode=U32, numsrc=U32),
    64: Layout(interface=U32, group=_ALIGNED_STORAGE, fmode=U32, numsrc=U32),
}
PACKET_MREQ = Layout(ifindex=INT, type=U16, alen=U16, address=octets(8))
#: include/uapi/linux/if_packet.h, packet(7) PACKET_AUXDATA.
TPACKET_AUXDATA = Layout(status=U32, len=U32, snaplen=U32, mac=U16, net=U16, vlan_tci=U16, vlan_tpid=U16)
TPACKET_STATS = Layout(packets=U32, drops=U32)
TPACKET_STATS_V3 = Layout(packets=U32, drops=U32, freeze_q_cnt=U32)
SOCK_FPROG = {32: Layout(len=Type("H2x"), filter=Type("I", hex)), 64: Layout(len=Type("H6x"), filter=Type("Q", hex))}
#: As of Linux 6.12. Older kernels report a beginning of it; what newer ones append is not decoded, but counted (`more`).
TCP_INFO = Layout(
    state=U8, ca_state=U8, retransmits=U8, probes=U8, backoff=U8, options=U8, wscale=Type("B", _window_scales),
    delivery_fastopen=U8, rto=U32, ato=U32, snd_mss=U32, rcv_mss=U32, unacked=U32, sacked=U32, lost=U32, retrans=U32,
    fackets=U32, last_data_sent=U32, last_ack_sent=U32, last_data_recv=U32, last_ack_recv=U32, pmtu=U32,
    rcv_ssthresh=U32, rtt=U32, rttvar=U32, snd_ssthresh=U32, snd_cwnd=U32, advmss=U32, reordering=U32, rcv_rtt=U32,
    rcv_space=U32, total_retrans=U32, pacing_rate=U64, max_pacing_rate=U64, bytes_acked=U64, bytes_received=U64,
    segs_out=U32, segs_in=U32, notsent_bytes=U32, min_rtt=U32, data_segs_in=U32, data_segs_out=U32, delivery_rate=U64,
    busy_time=U64, rwnd_limited=U64, sndbuf_limited=U64, delivered=U32, delivered_ce=U32, bytes_sent=U64,
    bytes_retrans=U64, dsack_dups=U32, reord_seen=U32, rcv_ooopack=U32, snd_wnd=U32, rcv_wnd=U32, rehash=U32,
    total_rto=U16, total_rto_recoveries=U16, total_rto_time=U32,
)  # fmt: skip

# Other system calls: include/uapi/asm-generic/poll.h, fcntl.h, include/uapi/linux/if.h

POLLFD = Layout(fd=INT, events=U16, revents=U16)
EPOLL_EVENT = Layout(events=U32, data=U64)  # include/uapi/linux/eventpoll.h: packed on x86-64, as it is on i386
F_OWNER_EX = Layout(type=INT, pid=INT)
IFREQ = {32: Layout(name=octets(IFNAMSIZ), data=octets(16)), 64: Layout(name=octets(IFNAMSIZ), data=octets(24))}
IFCONF = {32: Layout(len=INT, buf=U32), 64: Layout(len=Type("i4x"), buf=U64)}
