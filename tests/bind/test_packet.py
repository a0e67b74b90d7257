"""The protocol and the link that AF_PACKET sockets are bound to."""

import fcntl
import socket as python
import struct
from errno import EAGAIN, EINVAL, ENETDOWN, ENODEV

import pytest

from probes.entry.calls import Calls, Socket
from probes.entry.gate import Result
from probes.entry.memory import Memory
from probes.testing import behaviour, need
from probes.testing.prepared import await_events
from probes.testing.socket_kinds import PACKET, PACKET_DGRAM
from tests.bind.bind_forms import ETH_P_ALL, family_word, packet

SOURCE = "packet(7); packet_bind, packet_do_bind"
SOURCE_NAME = "packet(7) Address types; packet_getname"
SOURCE_OLD = "packet(7) Compatibility; packet_bind_spkt"
ETH_P_IP, ETH_P_ARP = 0x0800, 0x0806
LOOPBACK = 1
#: ARPHRD_ETHER, ARPHRD_LOOPBACK
ETHERNET, LOOP = 1, 772
#: Interface indexes that are not in use.
NO_LINKS = (0x3FFFFFFF, 0x7FFFFFFF, -1, -(2**31))
SOCK_PACKET = 10

each_kind = pytest.mark.parametrize("kind", [PACKET, PACKET_DGRAM], ids=str)


def sockname(protocol: int, link: int, hatype: int = 0, address: bytes = b"") -> bytes:
    """Packs a struct sockaddr_ll as getsockname returns it: it ends with the hardware address."""
    head = family_word(python.AF_PACKET) + struct.pack(">H", protocol)
    return head + struct.pack("<iHBB", link, hatype, 0, len(address)) + address


@behaviour("bind.packet.link", f"{SOURCE}; {SOURCE_NAME}")
@each_kind
def test_link(kind, links, new_socket, expect):
    """bind of a packet socket accepts the index of a link, up or down, or 0 for any link; getsockname returns the index,
    type and hardware address of the link, and a length that ends with that address.
    """
    hardware = {1: bytes(6), links.near: hardware_address("near0"), links.far: hardware_address("far0")}
    cases = {"any": 0, "loopback": LOOPBACK, "up": links.near, "down": links.far}
    for case, link in cases.items():
        socket = new_socket(*kind.triple)
        expect(0, link=case).of(socket.bind(packet(ETH_P_ALL, link)))
        check = expect(True, link=case, then="name")
        hatype = 0 if link == 0 else LOOP if link == LOOPBACK else ETHERNET
        name = socket.sockname()
        check.of(name.bytes == sockname(ETH_P_ALL, link, hatype, hardware.get(link, b"")), name)


def hardware_address(name: str) -> bytes:
    """Returns the hardware address of a link."""
    with python.socket(python.AF_INET, python.SOCK_DGRAM) as any_socket:
        # SIOCGIFHWADDR, struct ifreq
        return fcntl.ioctl(any_socket, 0x8927, struct.pack("16s16x", name.encode()))[18:24]


@behaviour("bind.packet.no-link", f"{SOURCE} dev_get_by_index_rcu; packet(7) ENODEV")
@each_kind
def test_no_link(kind, new_socket, expect):
    """bind to an index of no link fails with ENODEV and changes nothing."""
    socket = new_socket(*kind.triple)
    need(socket.bind(packet(ETH_P_ARP, LOOPBACK)))
    for link in NO_LINKS:
        expect(-ENODEV, link=link).of(socket.bind(packet(ETH_P_ALL, link)))
    expect(sockname(ETH_P_ARP, LOOPBACK, LOOP, bytes(6)), afterwards="name").of(socket.sockname())


@behaviour(
    "bind.packet.protocol", f"{SOURCE} `if (!proto) proto = po->num`; packet(7) sll_protocol `defaults to the socket's`"
)
@each_kind
def test_protocol(kind, new_socket, expect):
    """sll_protocol becomes the protocol of the socket, any number; sll_protocol 0 keeps the protocol of socket(2)."""
    for own in (0, ETH_P_ARP):
        for asked in (0, 1, ETH_P_ALL, ETH_P_IP, 0xFFFF):
            socket = new_socket(kind.family, kind.type, python.htons(own))
            expect(0, own=own, asked=asked).of(socket.bind(packet(asked, 0)))
            expect(sockname(asked or own, 0), own=own, asked=asked, then="name").of(socket.sockname())


@behaviour("bind.packet.fields-ignored", f"{SOURCE}; packet(7) `Fields used for binding`")
@each_kind
def test_fields_ignored(kind, new_socket, expect):
    """bind uses sll_family, sll_protocol and sll_ifindex and ignores the other fields."""
    socket = new_socket(*kind.triple)
    dirty = packet(ETH_P_ALL, LOOPBACK)[:8] + b"\xa5" * 12
    expect(0).of(socket.bind(dirty))
    expect(sockname(ETH_P_ALL, LOOPBACK, LOOP, bytes(6)), then="name").of(socket.sockname())


@behaviour("bind.packet.link-down", f"{SOURCE} `sk->sk_err = ENETDOWN`; packet(7) ENETDOWN; socket(7) SO_ERROR")
@each_kind
def test_link_down(kind, links, new_socket, expect):
    """bind to a link that is down succeeds and sets the socket error ENETDOWN, which SO_ERROR returns once; without a
    protocol there is no error.
    """
    for case, link, protocol, error in (
        ("down", links.far, ETH_P_ALL, ENETDOWN), ("up", LOOPBACK, ETH_P_ALL, 0), ("any", 0, ETH_P_ALL, 0),
        ("down-no-protocol", links.far, 0, 0),
    ):  # fmt: skip
        socket = new_socket(*kind.triple)
        expect(0, link=case).of(socket.bind(packet(protocol, link)))
        for time, wanted in (("first", error), ("second", 0)):
            pending = expect(wanted, link=case, error=time)
            pending.of(socket.getsockopt(python.SOL_SOCKET, python.SO_ERROR).as_int())


@behaviour("bind.packet.link-gone", "packet_notifier NETDEV_UNREGISTER; packet(7) ENETDOWN")
@each_kind
def test_link_gone(kind, links, new_socket, expect):
    """After its link is deleted a packet socket has index -1 and the socket error ENETDOWN, and can be bound to another
    link.
    """
    socket = new_socket(*kind.triple)
    need(socket.bind(packet(ETH_P_ALL, links.near)))
    links.remove()
    expect(sockname(ETH_P_ALL, -1), then="name").of(socket.sockname())
    expect(ENETDOWN, then="error").of(socket.getsockopt(python.SOL_SOCKET, python.SO_ERROR).as_int())
    expect(-ENODEV, then="same").of(socket.bind(packet(ETH_P_ALL, links.near)))
    expect(0, then="other").of(socket.bind(packet(ETH_P_ALL, LOOPBACK)))


@behaviour("bind.packet.no-capability", "capabilities(7) CAP_NET_RAW; packet_create, and nothing in packet_bind")
@each_kind
def test_no_capability(kind, new_socket, expect, caller):
    """bind of a packet socket that is already open needs no capability."""
    socket = new_socket(*kind.triple)
    caller.keep_capabilities(())
    for case, address in {"link": packet(ETH_P_ALL, LOOPBACK), "any": packet(ETH_P_ALL, 0)}.items():
        expect(0, address=case).of(socket.bind(address))


#: The protocol and link of bind, and how often the socket receives one IPv4 packet on the loopback link: with ETH_P_ALL
#: twice, when it is sent and when it is received.
RECEIVE: dict[str, tuple[tuple[int, int | str] | None, int]] = {
    "none": (None, 0), "no-protocol": ((0, LOOPBACK), 0),
    "ip": ((ETH_P_IP, LOOPBACK), 1), "all": ((ETH_P_ALL, LOOPBACK), 2),
    "ip-any": ((ETH_P_IP, 0), 1), "all-any": ((ETH_P_ALL, 0), 2), "arp": ((ETH_P_ARP, LOOPBACK), 0),
    "ip-other": ((ETH_P_IP, "far"), 0), "all-other": ((ETH_P_ALL, "far"), 0),
}  # fmt: skip


@pytest.mark.usefixtures("beside")
@behaviour(
    "bind.packet.receives", f"{SOURCE} register_prot_hook; packet(7) `To get packets only from a specific interface`"
)
@each_kind
def test_receives(kind, links, calls, memory, new_socket, expect):
    """A packet socket receives packets of its protocol from its link, from every link if the index is 0, and nothing if
    it has no protocol; another bind replaces both.
    """
    sockets = {case: new_socket(*kind.triple) for case in (*RECEIVE, "again")}
    for case, (address, _) in RECEIVE.items():
        if address:
            protocol, link = address
            need(sockets[case].bind(packet(protocol, links.far if isinstance(link, str) else link)))
            # Clears ENETDOWN, which the link that is down has set.
            need(sockets[case].getsockopt(python.SOL_SOCKET, python.SO_ERROR))
    for protocol in (ETH_P_ARP, ETH_P_IP):
        need(sockets["again"].bind(packet(protocol, LOOPBACK)))
    send_over_loopback()
    counts = {**{case: count for case, (_, count) in RECEIVE.items()}, "again": 1}
    # Those that receive nothing come last: then the others have received everything.
    for case, count in sorted(counts.items(), key=lambda one: -one[1]):
        check = expect([count, -EAGAIN], bound=case)
        results, packets = drained(calls, memory, sockets[case], count)
        check.of([sum(b"over loopback" in data for data in packets), results[-1]], *results)


def drained(calls: Calls, memory: Memory, socket: Socket, least: int) -> tuple[list[Result], list[bytes]]:
    """Receives until recv fails. Returns the results of recv, the last one an error, and the packets.

    It waits for as many packets as must come at least.
    """
    room = memory.alloc(256)
    results: list[Result] = []
    packets: list[bytes] = []
    while True:
        if len(packets) < least:
            await_events(calls, socket)
        results.append(calls.make("recv", socket, room, 256, python.MSG_DONTWAIT))
        if results[-1] < 0:
            return results, packets
        packets.append(room.part(0, results[-1]).read())


def send_over_loopback() -> None:
    """Sends one datagram and receives it."""
    with (
        python.socket(python.AF_INET, python.SOCK_DGRAM) as receiver,
        python.socket(python.AF_INET, python.SOCK_DGRAM) as sender,
    ):
        receiver.bind(("127.0.0.1", 0))
        sender.sendto(b"over loopback", receiver.getsockname())
        receiver.recv(64)


@behaviour("bind.packet.old", f"{SOURCE_OLD}; packet(7) spkt_device device name truncation")
def test_old(links, new_socket, expect):
    """bind of a SOCK_PACKET socket takes the name of a link, in an address of exactly 16 bytes (else EINVAL); it fails
    with ENODEV for a name of no link.
    """
    names = {
        "loopback": (b"lo", 0), "up": (b"near0", 0), "down": (b"far0", 0), "unknown": (b"nobody", -ENODEV),
        "empty": (b"", -ENODEV), "longer": (b"lo0", -ENODEV), "shorter": (b"near", -ENODEV),
    }  # fmt: skip
    for case, (name, answer) in names.items():
        socket = new_socket(python.AF_INET, SOCK_PACKET, python.htons(ETH_P_ALL))
        address = family_word(LOOP) + name.ljust(14, b"\0")
        expect(answer, name=case).of(socket.bind(address))
        if answer == 0:
            expect(family_word(python.AF_PACKET) + name.ljust(14, b"\0"), name=case, then="name").of(socket.sockname())
    socket = new_socket(python.AF_INET, SOCK_PACKET, python.htons(ETH_P_ALL))
    for length in (0, 2, 15, 17, 20, 128):
        expect(-EINVAL, length=length).of(socket.bind((family_word(LOOP) + b"lo").ljust(128, b"\0"), length))
