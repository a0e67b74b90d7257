"""Control messages of UDP segmentation, of what TCP has queued, and of packet sockets."""

import socket
import struct
from errno import EINVAL

import pytest

from probes.testing import behaviour, need, not_applicable
from probes.testing.socket_kinds import TCP, TCP6, UDP, UDP6
from tests.transfer.control_messages import cmsg

#: include/uapi/linux/udp.h. The level SOL_UDP is the protocol.
UDP_SEGMENT, UDP_GRO = 103, 104
LEVEL = socket.IPPROTO_UDP
#: Measured: NETIF_F_GSO_SOFTWARE, which the loopback link has, includes NETIF_F_GSO_UDP_L4 here.
MERGED_SINCE = "6.1"

each_kind = pytest.mark.parametrize("kind", (UDP, UDP6), ids=str)


def segment(size):
    """Packs a control message of UDP_SEGMENT: 2 bytes."""
    return cmsg(LEVEL, UDP_SEGMENT, struct.pack("<H", size))


@behaviour("transfer.control.udp-segment", "udp(7) UDP_SEGMENT; udp_cmsg_send, udp_send_skb")
@each_kind
def test_segment(kind, prepare, messages, expect):
    """UDP_SEGMENT in control data, 2 bytes, sends data as several datagrams of its size, the last one with the rest; 0 sends
    one. The next message is one datagram again.
    """
    end = prepare("connected", kind)
    data = b"abcdefghij"
    for case, (control, parts) in {
        "4": (segment(4), [b"abcd", b"efgh", b"ij"]), "5": (segment(5), [b"abcde", b"fghij"]),
        "10": (segment(10), [data]), "11": (segment(11), [data]), "0": (segment(0), [data]), "none": (b"", [data]),
    }.items():  # fmt: skip
        sent, check = expect(len(data), size=case), expect(parts, size=case, then="received")
        result = messages.send(end.fd, control, data)
        sent.of(result)
        found = [messages.receive(end.peer) for _ in parts]
        check.of([one.data for one in found], *(one.result for one in found))


@behaviour("transfer.control.udp-gro", "udp(7) UDP_GRO; udp_cmsg_recv, udp_rcv_segment; put_cmsg_compat")
@each_kind
def test_gro(kind, prepare, messages, calls, expect):
    """With UDP_GRO datagrams that were sent by UDP_SEGMENT are received as one, with a control message of 16 bytes that has
    their size; a single one has none.
    """
    if not expect.reference.has(MERGED_SINCE):
        not_applicable(f"Linux {MERGED_SINCE}, whose loopback link passes such datagrams on in one; 5.10's does not")
    end = prepare("connected", kind)
    need(calls.setsockopt(end.peer, LEVEL, UDP_GRO, 1), "UDP_GRO")
    data = bytes(range(50))
    size = cmsg(LEVEL, UDP_GRO, struct.pack("<i", 20))
    check = expect([50, data, size, 0], sent="segments")
    messages.sent(end.fd, segment(20), data)
    got = messages.receive(end.peer)
    check.of(got.value, got.result)
    check = expect([50, data, b"", 0], sent="one")
    messages.sent(end.fd, data=data)
    got = messages.receive(end.peer)
    check.of(got.value, got.result)


@behaviour("transfer.control.udp-segment-refused", "udp(7) UDP_SEGMENT; __udp_cmsg_send, udp_send_skb UDP_MAX_SEGMENTS")
@each_kind
def test_segment_refused(kind, prepare, messages, expect):
    """UDP_SEGMENT of other than 2 bytes, and another type of SOL_UDP, fail with EINVAL; nothing is sent."""
    end = prepare("connected", kind)
    for size in (0, 1, 3, 4):
        control = cmsg(LEVEL, UDP_SEGMENT, b"\1".ljust(size, b"\0")[:size])
        expect(-EINVAL, bytes=size).of(messages.send(end.fd, control, b"abcd"))
    expect(-EINVAL, type="unknown").of(messages.send(end.fd, cmsg(LEVEL, 0x7F, bytes(2)), b"abcd"))
    check = expect([1, b"m", b"", 0], then="marker")
    messages.sent(end.fd, data=b"m")
    got = messages.receive(end.peer)
    check.of(got.value, got.result)


#: include/uapi/linux/tcp.h TCP_INQ, TCP_CM_INQ.
TCP_INQ = 36


@behaviour("transfer.control.tcp-inq", "include/uapi/linux/tcp.h TCP_INQ, TCP_CM_INQ; tcp_recvmsg, tcp_inq_hint")
def test_inq(prepare, messages, calls, expect):
    """With TCP_INQ each message that is received comes with a control message of 16 bytes that has how many bytes are left
    to receive.
    """
    for kind in (TCP, TCP6):
        end = prepare("connected", kind)
        for on in (1, 0):
            need(calls.setsockopt(end.fd, socket.IPPROTO_TCP, TCP_INQ, on), "TCP_INQ")
            end.send(end.peer, b"abcdefgh")
            end.wait_bytes(end.fd, 8)
            for size, data, left in ((3, b"abc", 5), (8, b"defgh", 0)):
                control = cmsg(socket.IPPROTO_TCP, TCP_INQ, struct.pack("<i", left)) if on else b""
                check = expect([len(data), data, control, 0], kind=kind, option=on, left=left)
                got = messages.receive(end.fd, size=size)
                check.of(got.value, got.result)
        end.close()


#: packet(7), include/uapi/linux/if_packet.h; ETH_P_IP in network byte order.
SOL_PACKET, PACKET_AUXDATA, TP_STATUS_USER, ETH_P_IP = 263, 8, 1, 0x0008
ETHERNET = 14
#: struct tpacket_auxdata: status, len, snaplen, mac, net, vlan_tci, vlan_tpid.
AUXDATA = struct.Struct("<IIIHHHH")


@behaviour("transfer.control.packet-auxdata", "packet(7) PACKET_AUXDATA; packet_recvmsg, struct tpacket_auxdata")
def test_auxdata(prepare, new_socket, caller, calls, messages, expect):
    """PACKET_AUXDATA puts a control message of 32 bytes with each packet: its length on the wire, the length captured, where
    its headers begin, no VLAN, and TP_STATUS_USER in its status. Without the option there is none. A packet socket of
    SOCK_DGRAM has the packet without the link's header, and net 0.
    """
    caller.keep_capabilities(("CAP_NET_RAW",))
    length = 28 + 3
    for case, (type, size, net) in {
        "raw": (socket.SOCK_RAW, ETHERNET + length, ETHERNET), "datagram": (socket.SOCK_DGRAM, length, 0)
    }.items():  # fmt: skip
        packets = new_socket(socket.AF_PACKET, type, ETH_P_IP)
        end = prepare("connected", UDP)
        check = expect([size, b"", 0], kind=case, option=0)
        messages.sent(end.fd, data=b"abc")
        got = messages.receive(int(packets))
        check.of([got.result, got.control, got.flags], got.result)
        need(calls.setsockopt(int(packets), SOL_PACKET, PACKET_AUXDATA, 1), "PACKET_AUXDATA")
        value = [32, SOL_PACKET, PACKET_AUXDATA, TP_STATUS_USER, size, size, 0, net, 0, 0]
        # struct sockaddr_ll: the loopback link, its type ARPHRD_LOOPBACK, PACKET_HOST, an address of 6 zero bytes.
        name = struct.pack("<HHiHBB8x", socket.AF_PACKET, ETH_P_IP, 1, 772, 0, 6)
        check = expect([size, b"abc", name, value, 0], kind=case, option=1)
        messages.sent(end.fd, data=b"abc")
        got = messages.receive(int(packets))
        shown = got.control
        if len(shown) == value[0]:
            shown = [*struct.unpack_from("<Iii", shown), *AUXDATA.unpack_from(shown, 12)]
            shown[3] &= TP_STATUS_USER
        check.of([got.result, got.data[-3:], got.name, shown, got.flags], got.result)
        need(packets.close(), "close")
        end.close()
