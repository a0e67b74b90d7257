"""SCM_RIGHTS while it is queued: peeked at, between bytes of a stream, over itself, beyond the limits of descriptors."""

import socket
import struct
from errno import EINVAL, EPERM, ETOOMANYREFS

import pytest

from probes.sandbox import namespaces
from probes.testing import behaviour, need, not_applicable, procfs
from probes.testing.limits import DescriptorLimit
from probes.testing.socket_kinds import NETLINK, UDP, UNIX, UNIX_DGRAM, UNIX_SEQPACKET, UNIX_STREAM
from tests.transfer.control_messages import cmsg, rights

SOURCE = "unix(7) SCM_RIGHTS"
CTRUNC, PEEK = socket.MSG_CTRUNC, socket.MSG_PEEK
STDIN = 0
SO_PASSRIGHTS, PASSRIGHTS_SINCE = 83, "6.16"

each_kind = pytest.mark.parametrize("kind", UNIX, ids=str)


@pytest.fixture
def limit(calls):
    """Sets the soft RLIMIT_NOFILE of the caller: limit(number)."""
    return DescriptorLimit(calls)


@behaviour("transfer.control.rights-itself", f"{SOURCE}; unix_attach_fds, unix_inflight")
@each_kind
def test_itself(kind, prepare, messages, descriptors, expect):
    """A descriptor of a socket can be sent over that socket, and over its peer, so that it is queued on the socket itself:
    what is received is another descriptor of the same socket.
    """
    end = prepare("connected", kind)
    free = descriptors.lowest(end.fd, 2)
    for case, (passed, peer) in {"sender": (end.fd, end.peer), "receiver": (end.peer, end.fd)}.items():
        check = expect([1, b"x", rights(0), 0], passed=case)
        messages.sent(end.fd, rights(passed))
        got = messages.receive(end.peer)
        check.of(got.counted(free), got.result)
        same = expect([1, b"s", b"", 0], passed=case, then="sends")
        messages.sent(got.descriptors[0], data=b"s")
        last = messages.receive(peer)
        same.of(last.value, last.result)
        descriptors.close(*got.descriptors)


@behaviour("transfer.control.rights-peek", f"recv(2) MSG_PEEK; {SOURCE}; unix_peek_fds, scm_fp_dup")
@each_kind
def test_peek(kind, prepare, messages, descriptors, expect):
    """recvmsg with MSG_PEEK makes descriptors too, new ones each time, and leaves the message with its descriptors."""
    end = prepare("connected", kind)
    free = descriptors.lowest(end.fd, 3)
    messages.sent(end.fd, rights(STDIN))
    for index, flags in enumerate((PEEK, PEEK, 0)):
        check = expect([1, b"x", rights(index), 0], call=index, flags=f"{flags:#x}")
        got = messages.receive(end.peer, flags=flags)
        check.of(got.counted(free), got.result)


@behaviour(
    "transfer.control.rights-barrier",
    "unix(7) `Ancillary data forms a kind of message boundary`; unix_stream_read_generic",
)
def test_barrier(prepare, messages, descriptors, expect):
    """In a stream descriptors end what one recvmsg returns: it returns the bytes before them and those sent with them, the
    next one what follows.
    """
    end = prepare("connected", UNIX_STREAM)
    free = descriptors.lowest(end.fd, 2)
    expected = {
        "first": [5, b"1234a", rights(0), 0], "second": [1, b"b", rights(1), 0], "third": [4, b"5678", b"", 0]
    }  # fmt: skip
    messages.sent(end.fd, data=b"1234")
    messages.sent(end.fd, rights(STDIN), b"a")
    messages.sent(end.fd, rights(STDIN), b"b")
    messages.sent(end.fd, data=b"56")
    messages.sent(end.fd, data=b"78")
    for case, value in expected.items():
        check = expect(value, call=case)
        got = messages.receive(end.peer)
        check.of(got.counted(free), got.result)


@behaviour("transfer.control.rights-with-first-byte", "unix(7) Ancillary messages; unix_stream_read_generic")
def test_first_byte(prepare, messages, descriptors, expect):
    """In a stream descriptors come with the first byte that was sent with them; the bytes that are left have none."""
    end = prepare("connected", UNIX_STREAM)
    free = descriptors.lowest(end.fd, 1)
    check = expect([1, b"a", rights(0), 0], call="first")
    messages.sent(end.fd, rights(STDIN), b"abc")
    got = messages.receive(end.peer, size=1)
    check.of(got.counted(free), got.result)
    check = expect([2, b"bc", b"", 0], call="second")
    got = messages.receive(end.peer)
    check.of(got.value, got.result)


@behaviour(
    "transfer.control.rights-without-data", f"{SOURCE} `at least one byte`; unix_stream_sendmsg, unix_dgram_sendmsg"
)
def test_without_data(prepare, messages, descriptors, expect):
    """A stream passes no descriptors without a byte of data: sendmsg returns 0 and sends nothing. A datagram passes them."""
    for kind in UNIX:
        end = prepare("connected", kind)
        free = descriptors.lowest(end.fd, 1)
        arrives = [1, b"m", b"", 0] if kind is UNIX_STREAM else [0, b"", rights(0), 0]
        sent, check = expect(0, kind=kind), expect(arrives, kind=kind, then="received")
        result = messages.send(end.fd, rights(STDIN), b"")
        sent.of(result)
        messages.sent(end.fd, data=b"m")
        got = messages.receive(end.peer)
        check.of(got.counted(free), got.result)
        descriptors.close(*got.descriptors)


@behaviour("transfer.control.rights-none", "cmsg(3); scm_fp_copy `num <= 0`")
@each_kind
def test_none(kind, prepare, messages, expect):
    """SCM_RIGHTS with less than four bytes of data passes no descriptor, and the receiver gets no control message."""
    end = prepare("connected", kind)
    for size in range(4):
        check = expect([1, b"x", b"", 0], bytes=size)
        messages.sent(end.fd, cmsg(socket.SOL_SOCKET, socket.SCM_RIGHTS, b"\xff" * size))
        got = messages.receive(end.peer)
        check.of(got.value, got.result)
    # Of seven bytes the first four are a descriptor.
    check = expect([1, b"x", 16, 0], bytes=7)
    messages.sent(end.fd, cmsg(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("<i", STDIN) + b"\xff" * 3))
    got = messages.receive(end.peer)
    check.of(got.seen(len(got.control)), got.result)


@behaviour("transfer.control.rights-joined", f"{SOURCE}; scm_fp_copy, scm_detach_fds")
@each_kind
def test_joined(kind, prepare, messages, descriptors, expect):
    """The descriptors of several control messages of SCM_RIGHTS arrive in one. Another level is ignored."""
    end = prepare("connected", kind)
    free = descriptors.lowest(end.fd, 3)
    other = cmsg(socket.IPPROTO_IP, socket.SCM_RIGHTS, struct.pack("<i", -1))
    for case, control in {
        "two": rights(STDIN) + rights(STDIN, STDIN),
        "three": rights(STDIN) + rights(STDIN) + rights(STDIN),
        "other-level": other + rights(STDIN, STDIN) + other + rights(STDIN),
    }.items():
        check = expect([1, b"x", rights(0, 1, 2), 0], messages=case)
        messages.sent(end.fd, control)
        got = messages.receive(end.peer)
        check.of(got.counted(free), got.result)
        descriptors.close(*got.descriptors)


@behaviour(
    "transfer.control.rights-limit", f"{SOURCE} RLIMIT_NOFILE; getrlimit(2); receive_fd, get_unused_fd_flags EMFILE"
)
def test_limit(prepare, messages, descriptors, limit, expect):
    """recvmsg makes as many of the descriptors as RLIMIT_NOFILE permits, and msg_flags has MSG_CTRUNC if one is missing."""
    end = prepare("connected", UNIX_SEQPACKET)
    free = descriptors.lowest(end.fd, 3)
    for left in (2, 1, 0):
        check = expect([1, b"x", rights(*range(left)) if left else b"", CTRUNC if left < 2 else 0], left=left)
        made = expect(left, left=left, then="lowest-free")
        messages.sent(end.fd, rights(STDIN, STDIN))
        limit(free[left])
        got = messages.receive(end.peer)
        check.of(got.counted(free), got.result)
        limit.restore()
        (lowest,) = descriptors.lowest(end.fd)
        made.of(free.index(lowest), got.result)
        descriptors.close(*free[: free.index(lowest)])


@behaviour("transfer.control.rights-in-flight", "unix(7) ETOOMANYREFS; too_many_unix_fds, unix_attach_fds")
@pytest.mark.sandbox(ids=2)
def test_in_flight(prepare, messages, caller, limit, expect):
    """sendmsg fails with ETOOMANYREFS while more descriptors of the user are in flight than RLIMIT_NOFILE, without
    CAP_SYS_RESOURCE and CAP_SYS_ADMIN; once they are received, it sends again.
    """
    # As this user only this test passes descriptors, perhaps in another sandbox at the same time: it waits for that.
    caller.become(namespaces.OTHER_IDS[0])
    end = prepare("connected", UNIX_DGRAM)
    limit(100)
    many, one = rights(*[STDIN] * 101), rights(STDIN)
    expect(1, in_flight=100).of(procfs.read_until(lambda: messages.send(end.fd, many), 1))
    expect(-ETOOMANYREFS, in_flight=101).of(messages.send(end.fd, one))
    expect(1, in_flight=101, descriptors=0).of(messages.send(end.fd))
    need(messages.receive(end.peer, 0).result, returns=1)
    expect(1, in_flight=0).of(procfs.read_until(lambda: messages.send(end.fd, one), 1))


@behaviour(
    "transfer.control.rights-of-others", "unix(7) SCM_RIGHTS; __scm_send `ops->family != PF_UNIX`; __sock_cmsg_send"
)
def test_of_others(prepare, new_socket, messages, expect):
    """SCM_RIGHTS on a UDP socket is ignored and passes nothing, on a netlink socket sendmsg fails with EINVAL."""
    end = prepare("connected", UDP)
    check = expect([1, b"x", b"", 0], kind="udp")
    messages.sent(end.fd, rights(STDIN))
    got = messages.receive(end.peer)
    check.of(got.value, got.result)
    expect(-EINVAL, kind="netlink").of(messages.send(int(new_socket(*NETLINK.triple)), rights(STDIN)))


@behaviour("transfer.control.rights-refused", "include/uapi/asm-generic/socket.h SO_PASSRIGHTS; unix_may_passrights")
@each_kind
def test_refused(kind, prepare, messages, descriptors, calls, expect):
    """To a socket whose SO_PASSRIGHTS is 0 sendmsg with SCM_RIGHTS fails with EPERM, and sends nothing; it is 1 at first."""
    if not expect.reference.has(PASSRIGHTS_SINCE):
        not_applicable(f"Linux {PASSRIGHTS_SINCE}, which introduced SO_PASSRIGHTS")
    end = prepare("connected", kind)
    free = descriptors.lowest(end.fd)
    at_first = expect([0, 1], option="at-first")
    at_first.of(calls.getsockopt(end.peer, socket.SOL_SOCKET, SO_PASSRIGHTS).as_int().with_result())
    for on in (0, 1):
        expect(0, option=on, op="setsockopt").of(calls.setsockopt(end.peer, socket.SOL_SOCKET, SO_PASSRIGHTS, on))
        expect(1 if on else -EPERM, option=on, op="sendmsg").of(messages.send(end.fd, rights(STDIN), b"r"))
        check = expect([1, b"r", rights(0), 0] if on else [1, b"m", b"", 0], option=on, op="recvmsg")
        if not on:
            messages.sent(end.fd, data=b"m")
        got = messages.receive(end.peer)
        check.of(got.counted(free), got.result)
