"""Options of IPPROTO_IP that the header of each packet shows: type of service, time to live, IP options."""

import socket
from errno import EINVAL

import pytest

from probes.testing import behaviour, need, procfs
from probes.testing.socket_kinds import RAW, TCP, UDP

IP = socket.IPPROTO_IP
IP_TOS, IP_TTL, IP_HDRINCL, IP_OPTIONS, SO_PRIORITY = 1, 2, 3, 4, 12
#: Types of service with the priority that each chooses (rt_tos2priority): IPTOS_LOWDELAY, IPTOS_THROUGHPUT,
#: IPTOS_RELIABILITY, IPTOS_MINCOST, every bit of the precedence, every bit.
SERVICES = {0x10: 6, 0x08: 2, 0x04: 0, 0x02: 0, 0xE0: 0, 0xFF: 4, 0x00: 0}
#: IPOPT_NOOP four times.
NO_OPERATION = b"\1\1\1\1"


class Headers:
    """Holds two connected raw sockets: `end`. Calling it sends a packet, and returns the IPv4 header that it had."""

    def __init__(self, end):
        self.end = end

    def __call__(self):
        self.end.send(self.end.fd, b"data")
        return self.received()

    def received(self):
        """Receives a packet, and returns its IPv4 header."""
        self.end.wait(self.end.peer)
        room = self.end.calls.memory.alloc(128)
        result = self.end.calls.make("recv", self.end.peer, room, room.size, 0)
        packet = room.read()[: need(result, "recv")]
        return packet[: (packet[0] & 15) * 4]


@pytest.fixture
def header(prepare):
    """Sends packets and returns their headers: see Headers."""
    return Headers(prepare("connected", RAW))


@behaviour("options.ip.service", "ip(7) IP_TOS; socket(7) SO_PRIORITY; __ip_sock_set_tos, rt_tos2priority")
def test_service(header, caller, calls, new_socket, expect):
    """IP_TOS is the type of service in the header of what is sent, and chooses SO_PRIORITY. Every value is accepted without
    a capability, and its low eight bits count; TCP keeps the lowest two, which are those of congestion notification.
    """
    fd, stream = header.end.fd, new_socket(*TCP.triple)
    caller.keep_capabilities(())
    for service, priority in SERVICES.items():
        for given in (service, service | 0x100):
            check = expect([0, service, service, priority], kind=RAW, given=f"{given:#x}")
            result = calls.setsockopt(fd, IP, IP_TOS, given)
            read = calls.getsockopt(fd, IP, IP_TOS).as_int()
            chosen = calls.getsockopt(fd, socket.SOL_SOCKET, SO_PRIORITY).as_int()
            check.of([int(result), header()[1], read.value, chosen.value], result)
        check = expect([0, service & ~3], kind=TCP, given=f"{service:#x}")
        result = stream.setsockopt(IP, IP_TOS, service)
        check.of([int(result), stream.getsockopt(IP, IP_TOS).as_int().value], result)


@behaviour("options.ip.time-to-live", "ip(7) IP_TTL, ip_default_ttl; do_ip_setsockopt `val < 1 || val > 255`")
def test_time_to_live(header, calls, new_socket, expect):
    """IP_TTL of 1 to 255 is the time to live in the header of what is sent; -1 sets that of ip_default_ttl, 0 and other
    values fail with EINVAL.
    """
    fd, default = header.end.fd, procfs.sysctl("net.ipv4.ip_default_ttl")[0]
    for given in (1, 2, 128, 255, -1):
        check = expect([0, default if given < 0 else given], kind=RAW, given=given)
        result = calls.setsockopt(fd, IP, IP_TTL, given)
        check.of([int(result), header()[8]], result)
    for kind in (RAW, UDP, TCP):
        sock = new_socket(*kind.triple)
        for given in (0, 256, -2, 0x7FFFFFFF):
            expect(-EINVAL, kind=kind, given=given).of(sock.setsockopt(IP, IP_TTL, given))
        expect(default, kind=kind, then="value").of(sock.getsockopt(IP, IP_TTL).as_int())


@behaviour("options.ip.options", "ip(7) IP_OPTIONS; ip_options_get, ip_options_build, do_ip_getsockopt")
def test_options(header, calls, expect):
    """IP_OPTIONS puts IP options into the header of each packet, 40 bytes at most; more, and malformed ones, fail with
    EINVAL and leave those that were set. getsockopt returns them, and a length of 0 removes them.
    """
    fd = header.end.fd
    for case, given, sent in (
        ("no-operation", NO_OPERATION, NO_OPERATION), ("padded", b"\1\1", b"\1\1\0\0"), ("most", b"\1" * 40, b"\1" * 40),
    ):  # fmt: skip
        check = expect([0, 5 + len(sent) // 4, sent, sent], options=case)
        result = calls.setsockopt(fd, IP, IP_OPTIONS, given)
        head, read = header(), calls.getsockopt(fd, IP, IP_OPTIONS, 64)
        check.of([int(result), head[0] & 15, head[20:], read.value], result)
    for case, given in {"too-many": b"\1" * 41, "cut-off": b"\7\7\4\0", "no-length": b"\1\1\1\7"}.items():
        expect(-EINVAL, options=case).of(calls.setsockopt(fd, IP, IP_OPTIONS, given))
    expect(b"\1" * 40, options="refused", then="options").of(calls.getsockopt(fd, IP, IP_OPTIONS, 64))
    check = expect([0, 5, b""], options="removed")
    result = calls.setsockopt(fd, IP, IP_OPTIONS, b"")
    check.of([int(result), header()[0] & 15, calls.getsockopt(fd, IP, IP_OPTIONS, 64).value], result)


@behaviour("options.ip.header-included", "ip(7) IP_HDRINCL; raw(7); raw_sendmsg `IP options + IP_HDRINCL is non-sense`")
def test_header_included(header, calls, expect):
    """With IP_HDRINCL the header that the caller gives is sent, whatever IP_TTL and IP_TOS of the socket are. With
    IP_OPTIONS, which ip(7) says are ignored too, sending fails with EINVAL.
    """
    fd = header.end.fd
    for name, setting in ((IP_TOS, 0x10), (IP_TTL, 99), (IP_HDRINCL, 1)):
        need(calls.setsockopt(fd, IP, name, setting), f"IP option {name}")
    packet = bytes.fromhex("4520 0018 1234 4000 07fd 0000 7f000002 7f000001") + b"data"
    check = expect([24, 0x45, 0x20, 7], options="none")
    sent = calls.make("send", fd, calls.pointer(packet), len(packet), 0)
    head = header.received() if sent > 0 else bytes(20)
    check.of([int(sent), head[0], head[1], head[8]], sent)
    need(calls.setsockopt(fd, IP, IP_OPTIONS, NO_OPERATION), "IP_OPTIONS")
    expect(-EINVAL, options="set").of(calls.make("send", fd, calls.pointer(packet), len(packet), 0))
