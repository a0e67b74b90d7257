"""Control messages of what a header carries besides addresses: IP options, IPv6 extension headers, flow labels."""

import socket
import struct
from errno import EINVAL, EPERM

from probes.abi.names import value
from probes.testing import behaviour, need
from probes.testing.socket_kinds import TCP6, UDP, UDP6
from tests.transfer.control_messages import cmsg

IP, IPV6 = socket.IPPROTO_IP, socket.IPPROTO_IPV6
IP_OPTIONS, IP_RECVOPTS, IP_RETOPTS = 4, 6, 7
#: IPOPT_RR: a route of two addresses to be recorded; IPOPT_END behind it.
RECORD_ROUTE = b"\7\x0b\4" + bytes(9)
#: The same as it is received: with the addresses of the sending and of the receiving host.
RECORDED = b"\7\x0b\x0c" + b"\x7f\0\0\1" * 2 + b"\0"
#: An extension header of 8 bytes: next header 0, which the kernel replaces, length 0, and PadN of 6 bytes (RFC 8200).
PADDED = b"\0\0\1\4\0\0\0\0"
#: The options that request a control message, its type, and the protocol of the header behind (UDP).
HEADERS = {"hop-by-hop": ("IPV6_RECVHOPOPTS", "IPV6_HOPOPTS"), "destination": ("IPV6_RECVDSTOPTS", "IPV6_DSTOPTS")}
BEHIND = bytes([socket.IPPROTO_UDP])


@behaviour("transfer.control.ip-options", "ip(7) IP_RECVOPTS, IP_RETOPTS; ip_cmsg_recv_opts, ip_cmsg_recv_retopts")
def test_options(prepare, messages, calls, expect):
    """IP_RECVOPTS puts a control message with the IP options of a datagram, its route as hosts have recorded it, and
    IP_RETOPTS one with those of an answer, which has the same route; a datagram without options has none.
    """
    end = prepare("connected", UDP)
    for case, option in (("received", IP_RECVOPTS), ("to-return", IP_RETOPTS)):
        need(calls.setsockopt(end.peer, IP, option, 1), "an option of IPPROTO_IP")
        for given in (b"", RECORD_ROUTE):
            need(calls.setsockopt(end.fd, IP, IP_OPTIONS, given), "IP_OPTIONS")
            check = expect([1, b"x", cmsg(IP, option, RECORDED) if given else b"", 0], request=case, options=len(given))
            messages.sent(end.fd)
            got = messages.receive(end.peer)
            check.of(got.value, got.result)
        need(calls.setsockopt(end.peer, IP, option, 0), "an option of IPPROTO_IP")


@behaviour("transfer.control.ip6-headers", "ipv6(7) IPV6_HOPOPTS, IPV6_DSTOPTS; RFC 3542; ip6_datagram_recv_ctl")
def test_headers(prepare, messages, calls, caller, expect):
    """IPV6_HOPOPTS and IPV6_DSTOPTS in control data put an extension header into that datagram: with IPV6_RECVHOPOPTS and
    IPV6_RECVDSTOPTS it is received as it was sent. Sending it needs CAP_NET_RAW, else EPERM.
    """
    end = prepare("connected", UDP6)
    for case, (option, number) in HEADERS.items():
        message = cmsg(IPV6, value(number), PADDED)
        for on in (0, 1):
            need(calls.setsockopt(end.peer, IPV6, value(option), on), option)
            arriving = cmsg(IPV6, value(number), BEHIND + PADDED[1:]) if on else b""
            check = expect([1, b"x", arriving, 0], header=case, option=on)
            messages.sent(end.fd, message)
            got = messages.receive(end.peer)
            check.of(got.value, got.result)
        need(calls.setsockopt(end.peer, IPV6, value(option), 0), option)
        short = cmsg(IPV6, value(number), PADDED[:1])
        expect(-EINVAL, header=case, bytes=1).of(messages.send(end.fd, short))
    caller.keep_capabilities(())
    for case, (_, number) in HEADERS.items():
        refused = cmsg(IPV6, value(number), PADDED)
        expect(-EPERM, header=case, capability="none").of(messages.send(end.fd, refused))


@behaviour("transfer.control.ip6-flow", "ipv6(7) IPV6_FLOWINFO; ip6_datagram_recv_specific_ctl")
def test_flow(prepare, messages, calls, expect):
    """IPV6_FLOWINFO puts a control message of 16 bytes with the traffic class of a datagram's header, which has no label."""
    end = prepare("connected", UDP6)
    need(calls.setsockopt(end.peer, IPV6, value("IPV6_FLOWINFO"), 1), "IPV6_FLOWINFO")
    need(calls.setsockopt(end.fd, IPV6, value("IPV6_AUTOFLOWLABEL"), 0), "IPV6_AUTOFLOWLABEL")
    for service in (0x10, 0xB8):
        need(calls.setsockopt(end.fd, IPV6, value("IPV6_TCLASS"), service), "IPV6_TCLASS")
        check = expect(
            [1, b"x", cmsg(IPV6, value("IPV6_FLOWINFO"), struct.pack(">I", service << 20)), 0], service=service
        )
        messages.sent(end.fd)
        got = messages.receive(end.peer)
        check.of(got.value, got.result)


@behaviour(
    "transfer.control.ip6-of-datagrams",
    "ipv6(7) `SOCK_DGRAM and SOCK_RAW only`; do_ipv6_setsockopt",
    tag="implementation",
)
def test_of_datagrams(new_socket, expect):
    """The options that request control messages of IPv6 headers are set on datagram sockets; on a stream too, though ipv6(7)
    says that they are of SOCK_DGRAM and SOCK_RAW.
    """
    for kind in (UDP6, TCP6):
        sock = new_socket(*kind.triple)
        for name in ("IPV6_RECVHOPOPTS", "IPV6_RECVDSTOPTS", "IPV6_RECVRTHDR", "IPV6_RECVHOPLIMIT", "IPV6_FLOWINFO"):
            expect(0, kind=kind, option=name).of(sock.setsockopt(IPV6, value(name), 1))
            expect([0, 1], kind=kind, option=name, then="read").of(
                sock.getsockopt(IPV6, value(name)).as_int().with_result()
            )
