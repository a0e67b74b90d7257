"""What a netlink socket is sent: groups and their options, and the answers that the flags of a request select."""

import socket
import struct
from errno import EAGAIN, ECONNREFUSED, EEXIST, ENOENT, EOPNOTSUPP, EPERM, ESRCH

import pytest

from probes.abi.names import value
from probes.abi.sockaddr import netlink
from probes.testing import behaviour, need
from probes.testing.socket_kinds import NETLINK, SocketKind
from tests.transfer.control_messages import cmsg
from tests.transfer.exchange import came

NOW, SOL_NETLINK = socket.MSG_DONTWAIT, 270
#: NETLINK_USERSOCK: for messages between processes.
USERSOCK = SocketKind("netlink-user", socket.AF_NETLINK, socket.SOCK_RAW, 2)
#: include/uapi/linux/netlink.h: flags of every message, of requests to get, and of requests to make.
REQUEST, MULTI, ACK, ECHO, CAPPED = 1, 2, 4, 8, 0x100
ROOT, MATCH, ATOMIC = 0x100, 0x200, 0x400
REPLACE, EXCLUSIVE, CREATE, APPEND = 0x100, 0x200, 0x400, 0x800
NOOP, ERROR, DONE = 1, 2, 3
#: include/uapi/linux/rtnetlink.h; a type that no family has.
NEWLINK, GETLINK, NEWROUTE, DELROUTE, UNKNOWN = 16, 18, 24, 25, 0x7FF0
SOURCE = "netlink(7)"


class Asking:
    """Makes requests of the kernel on a netlink socket, and receives its answers."""

    def __init__(self, exchange, prepare):
        self.exchange, self.end, self.sequence = exchange, prepare("unbound", NETLINK), 70
        need(self.end.calls.bind(self.end.fd, netlink(7000)))

    def ask(self, kind, flags, body=b""):
        """Sends a request, and returns it."""
        self.sequence += 1
        message = struct.pack("<IHHII", 16 + len(body), kind, flags, self.sequence, 0) + body
        need(self.exchange.make("send", self.end, self.end.calls.pointer(message), len(message), 0), "send")
        return message

    def answer(self):
        """Receives what was answered: the result, and the messages as (type, flags, sequence, body).

        Bytes behind the last message are one more of type 0.
        """
        self.end.wait(self.end.fd)
        room = self.end.calls.memory.alloc(1 << 14)
        result = self.exchange.make("recv", self.end, room, room.size, 0)
        data, found = room.read()[: max(0, result)], []
        while data:
            length, kind, flags, sequence, _ = (
                struct.unpack_from("<IHHII", data) if len(data) >= 16 else (0, 0, 0, 0, 0)
            )
            if not 16 <= length <= len(data):
                found.append((0, 0, 0, data))
                break
            found.append((kind, flags, sequence, data[16:length]))
            data = data[length + 3 & ~3 :]
        return result, found


@pytest.fixture
def asking(exchange, prepare):
    """Makes requests of the kernel: see Asking."""
    return Asking(exchange, prepare)


def answered(number, request, whole=False):
    """Returns the body of NLMSG_ERROR: the number, and the header of the request, or the request."""
    return struct.pack("<i", -number) + (request if whole else request[:16])


@behaviour(
    "transfer.netlink.acknowledged", f"{SOURCE} NLM_F_ACK, NLMSG_ERROR, NLMSG_NOOP; netlink_rcv_skb, netlink_ack"
)
@pytest.mark.routes("socketcall")
def test_acknowledged(asking, expect):
    """The kernel answers a request with NLM_F_ACK by NLMSG_ERROR with the error 0, NLMSG_NOOP and NLMSG_DONE too. One
    without it that succeeds has no answer; one that fails has its error, with the whole request.
    """
    for case, kind, flags in (("noop", NOOP, REQUEST), ("done", DONE, REQUEST), ("no-request", NOOP, 0)):
        asking.ask(kind, flags)
        check = expect([[ERROR, CAPPED, asking.sequence + 1, True]], message=case)
        request = asking.ask(kind, flags | ACK)
        result, found = asking.answer()
        check.of([[*one[:3], one[3] == answered(0, request)] for one in found], result)
    for flags in (REQUEST, REQUEST | ACK):
        check = expect([[ERROR, 0, True]], message="unknown", flags=flags)
        request = asking.ask(UNKNOWN, flags, b"body")
        result, found = asking.answer()
        check.of([[*one[:2], one[3] == answered(EOPNOTSUPP, request, whole=True)] for one in found], result)


@behaviour("transfer.netlink.cap-ack", f"{SOURCE} NETLINK_CAP_ACK; netlink_ack NLM_F_CAPPED")
@pytest.mark.routes("socketcall")
def test_cap_ack(asking, calls, expect):
    """With NETLINK_CAP_ACK the answer to a request that failed has the header of the request alone, and NLM_F_CAPPED."""
    for on in (0, 1, 0):
        need(calls.setsockopt(asking.end.fd, SOL_NETLINK, value("NETLINK_CAP_ACK"), on), "NETLINK_CAP_ACK")
        check = expect([[ERROR, CAPPED if on else 0, True]], option=on, step=asking.sequence - 70)
        request = asking.ask(UNKNOWN, REQUEST, b"whole body\0\0")
        result, found = asking.answer()
        check.of([[*one[:2], one[3] == answered(EOPNOTSUPP, request, whole=not on)] for one in found], result)


@behaviour("transfer.netlink.dump", f"{SOURCE} NLM_F_DUMP, NLM_F_MULTI, NLMSG_DONE; rtnetlink_rcv_msg, netlink_dump")
@pytest.mark.usefixtures("unprivileged")
@pytest.mark.routes("socketcall")
def test_dump(asking, expect):
    """A request to get with NLM_F_ROOT or NLM_F_MATCH is answered by a message for each link, with NLM_F_MULTI, and
    NLMSG_DONE behind the last one; NLM_F_ATOMIC, for which netlink(7) says that a privilege is needed, changes nothing.
    """
    for case, flags in {"root": ROOT, "match": MATCH, "dump": ROOT | MATCH, "atomic": ROOT | MATCH | ATOMIC}.items():
        check = expect([[NEWLINK, MULTI, 1], [DONE, MULTI, 0]], flags=case)
        asking.ask(GETLINK, REQUEST | flags, bytes(16))
        found, results = [], []
        while not found or found[-1][0] == NEWLINK:
            result, messages = asking.answer()
            results.append(result)
            found += messages or [(ERROR, 0, 0, b"")]
        # struct ifinfomsg has the index of the link at 4; behind NLMSG_DONE is the number 0.
        shown = [
            [*one[:2], int.from_bytes(one[3][4:8] if one[0] == NEWLINK else one[3][:4], "little")] for one in found
        ]
        check.of([shown[0], *[one for one in shown[1:] if one[0] != NEWLINK]], *results)


def route(preferred=b""):
    """Packs a route to 198.51.100.0/24 over the loopback link: struct rtmsg, RTA_DST, RTA_OIF, and RTA_PREFSRC if given."""
    head = struct.pack("<BBBBBBBBI", socket.AF_INET, 24, 0, 0, 254, 4, 253, 1, 0)
    attributes = struct.pack("<HH4s", 8, 1, socket.inet_aton("198.51.100.0")) + struct.pack("<HHI", 8, 4, 1)
    return head + attributes + (struct.pack("<HH4s", 8, 7, preferred) if preferred else b"")


@behaviour("transfer.netlink.made", f"{SOURCE} NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_APPEND; fib_table_insert")
@pytest.mark.routes("socketcall")
def test_made(asking, expect):
    """A request to make a route fails with ENOENT without NLM_F_CREATE, and with EEXIST if there is one already; not with
    NLM_F_REPLACE, nor with NLM_F_APPEND for another source address. A request to remove none fails with ESRCH.
    """
    here = socket.inet_aton("127.0.0.1")
    for case, kind, flags, body, error in (
        ("none", NEWROUTE, 0, route(), ENOENT), ("replace-none", NEWROUTE, REPLACE, route(), ENOENT),
        ("create", NEWROUTE, CREATE, route(), 0), ("create-again", NEWROUTE, CREATE, route(), EEXIST),
        ("exclusive", NEWROUTE, CREATE | EXCLUSIVE, route(here), EEXIST), ("replace", NEWROUTE, REPLACE, route(), 0),
        ("append", NEWROUTE, CREATE | APPEND, route(here), 0), ("delete", DELROUTE, 0, route(here), 0),
        ("delete-other", DELROUTE, 0, route(), 0), ("delete-none", DELROUTE, 0, route(), ESRCH),
    ):  # fmt: skip
        check = expect([[ERROR, -error]], request=case)
        asking.ask(kind, REQUEST | ACK | flags, body)
        result, found = asking.answer()
        check.of([[one[0], int.from_bytes(one[3][:4], "little", signed=True)] for one in found], result)


@behaviour("transfer.netlink.echo", f"{SOURCE} NLM_F_ECHO; rtnl_notify, nlmsg_report")
@pytest.mark.routes("socketcall")
def test_echo(asking, expect):
    """A request with NLM_F_ECHO is answered by the message that its group gets, and one without it is not."""
    for case, flags, answers in (("echo", ECHO, [NEWROUTE, ERROR]), ("none", 0, [ERROR])):
        check = expect(answers, flags=case)
        asking.ask(NEWROUTE, REQUEST | ACK | CREATE | flags, route())
        found, results = [], []
        while not found or found[-1] == NEWROUTE:
            result, messages = asking.answer()
            results.append(result)
            found += [kind for kind, *_ in messages] or [ERROR]
        check.of(found, *results)
        asking.ask(DELROUTE, REQUEST | ACK, route())
        asking.answer()


@behaviour("transfer.netlink.group-privilege", f"{SOURCE} `CAP_NET_ADMIN capability may send`; netlink_allowed")
@pytest.mark.usefixtures("unprivileged")
def test_group_privilege(exchange, prepare, expect):
    """Sending to a group fails with EPERM without CAP_NET_ADMIN, except for NETLINK_USERSOCK."""
    for kind, error in ((NETLINK, -EPERM), (USERSOCK, -ECONNREFUSED)):
        end = prepare("unbound", kind)
        for op in exchange.over(("sendto", "sendmsg", "sendmmsg")):
            expect(error, kind=kind, op=op).of(exchange.send(op, end, b"data", name=netlink(0, 1)))
        end.close()


@pytest.fixture
def member(prepare, calls):
    """Makes two sockets of NETLINK_USERSOCK: `fd`, which sends, and `peer`, which has the port 7001 and is in no group."""
    end = prepare("unbound", USERSOCK)
    end.peer = end.new()
    need(end.calls.bind(end.fd, netlink(7000)))
    need(end.calls.bind(end.peer, netlink(7001)))
    return end


def to_group(exchange, end, data, group=1):
    """Sends to a group. Port 0 is the kernel, which has no socket of this protocol: ECONNREFUSED."""
    sent = exchange.send("sendto", end, data, name=netlink(0, 1 << group - 1))
    need(sent.result, "sendto", returns=-ECONNREFUSED)


@behaviour(
    "transfer.netlink.membership", f"{SOURCE} NETLINK_ADD_MEMBERSHIP, NETLINK_DROP_MEMBERSHIP; netlink_setsockopt"
)
def test_membership(exchange, member, calls, expect):
    """A socket receives what is sent to a group after NETLINK_ADD_MEMBERSHIP, until NETLINK_DROP_MEMBERSHIP;
    NETLINK_LIST_MEMBERSHIPS has a bit for each group, and no bytes before the first membership.
    """
    add, drop, listed = (value(f"NETLINK_{name}") for name in ("ADD_MEMBERSHIP", "DROP_MEMBERSHIP", "LIST_MEMBERSHIPS"))
    for step, option, group, groups, receives in (
        ("before", None, 1, b"", False), ("added", add, 1, 1, True), ("other", add, 3, 5, True),
        ("dropped", drop, 1, 4, False),
    ):  # fmt: skip
        if option is not None:
            expect(0, step=step, op="setsockopt").of(calls.setsockopt(member.peer, SOL_NETLINK, option, group))
        check = expect(groups, step=step, option="list")
        found = calls.getsockopt(member.peer, SOL_NETLINK, listed, 4).as_int()
        check.of(found)
        to_group(exchange, member, b"group")
        need(exchange.send("sendto", member, b"marker", name=netlink(7001)).result, "sendto")
        check = expect(came("recv", b"group" if receives else b"marker"), step=step, op="recv")
        check.of(exchange.receive("recv", member.peer, 8))
        if receives:
            need(exchange.receive("recv", member.peer, 8).result, "recv")


@behaviour("transfer.netlink.packet-info", f"{SOURCE} NETLINK_PKTINFO; netlink_cmsg_recv_pktinfo; put_cmsg_compat")
def test_packet_info(exchange, member, messages, calls, expect):
    """With NETLINK_PKTINFO each message comes with a control message of 16 bytes that has the number of its group, 0 for
    one that was sent to the socket's port.
    """
    info = value("NETLINK_PKTINFO")
    need(calls.setsockopt(member.peer, SOL_NETLINK, value("NETLINK_ADD_MEMBERSHIP"), 3), "NETLINK_ADD_MEMBERSHIP")
    need(calls.setsockopt(member.peer, SOL_NETLINK, info, 1), "NETLINK_PKTINFO")
    for case, group in (("group", 3), ("port", 0)):
        check = expect([4, b"data", cmsg(SOL_NETLINK, info, struct.pack("<I", group)), 0], to=case)
        if group:
            to_group(exchange, member, b"data", group)
        else:
            need(exchange.send("sendto", member, b"data", name=netlink(7001)).result, "sendto")
        got = messages.receive(member.peer)
        check.of(got.value, got.result)


@behaviour("transfer.netlink.no-enobufs", f"{SOURCE} NETLINK_NO_ENOBUFS; netlink_overrun")
def test_no_enobufs(exchange, member, calls, expect):
    """With NETLINK_NO_ENOBUFS a socket that had no room for a message to its group receives what it has, without ENOBUFS."""
    for name, given in (("NETLINK_NO_ENOBUFS", 1), ("NETLINK_ADD_MEMBERSHIP", 1)):
        need(calls.setsockopt(member.peer, SOL_NETLINK, value(name), given), name)
    need(calls.setsockopt(member.peer, socket.SOL_SOCKET, socket.SO_RCVBUF, 1), "SO_RCVBUF")
    for _ in range(8):
        to_group(exchange, member, bytes(1000))
    expect(came("recv", bytes(1000)), op="recv", queued="some").of(exchange.receive("recv", member.peer, 1000))
    check, count = expect([True, -EAGAIN], op="recv", queued="none"), 1
    while (got := exchange.receive("recv", member.peer, 1000, NOW)).result > 0:
        count += 1
    check.of([count < 8, int(got.result)], got)


@behaviour("transfer.netlink.every-namespace", f"{SOURCE} NETLINK_LISTEN_ALL_NSID; capabilities(7) CAP_NET_BROADCAST")
def test_every_namespace(new_socket, caller, expect):
    """NETLINK_LISTEN_ALL_NSID fails with EPERM without CAP_NET_BROADCAST."""
    sock, option = new_socket(*NETLINK.triple), value("NETLINK_LISTEN_ALL_NSID")
    for case, capabilities, result in (
        ("kept", ("CAP_NET_BROADCAST",), 0), ("none", (), -EPERM),
    ):  # fmt: skip
        caller.keep_capabilities(capabilities)
        expect(result, capability=case).of(sock.setsockopt(SOL_NETLINK, option, 1))
