"""SCM_RIGHTS: descriptors that a message carries, from the call that sends them to the one that receives them."""

import socket
from errno import EBADF, EINVAL
from fcntl import F_GETFD, F_GETFL, F_SETFD, F_SETFL
from os import O_NONBLOCK, O_RDWR

import pytest

from probes.testing import behaviour, need
from probes.testing.socket_kinds import UDP, UNIX, UNIX_DGRAM, UNIX_SEQPACKET, UNIX_STREAM
from tests.transfer.control_messages import cmsg, rights

SOURCE = "unix(7) SCM_RIGHTS; cmsg(3)"
KERNEL = "scm_fp_copy, scm_detach_fds, scm_detach_fds_compat"
MSG_CMSG_CLOEXEC = 0x40000000
CTRUNC = socket.MSG_CTRUNC
#: SCM_MAX_FD: as many descriptors a message may have.
MOST = 253
ROOM_FOR_MOST = 12 + 4 * MOST
#: An open descriptor that is no socket: standard input.
STDIN = 0

each_kind = pytest.mark.parametrize("kind", UNIX, ids=str)


@pytest.fixture
def named(new_socket):
    """Makes sockets that can be distinguished: named(count) returns sockets with the ports 6000, 6001, …"""

    def make(count):
        made = [new_socket(*UDP.triple) for _ in range(count)]
        for index, one in enumerate(made):
            need(one.bind(UDP.address(6000 + index)))
        return made

    return make


@behaviour("transfer.control.rights", f"{SOURCE}; {KERNEL}")
@each_kind
def test_rights(kind, prepare, named, messages, descriptors, calls, expect):
    """SCM_RIGHTS makes descriptors of the open files that were passed, in their order: the lowest free ones, in one control
    message of 12 bytes and 4 for each, without FD_CLOEXEC.
    """
    end, files = prepare("connected", kind), named(3)
    for count in (1, 2, 3):
        free = descriptors.lowest(end.fd, count)
        check = expect([1, b"x", rights(*range(count)), 0], count=count)
        flags = expect([0] * count, count=count, then="descriptor-flags")
        messages.sent(end.fd, rights(*map(int, files[:count])))
        got = messages.receive(end.peer)
        check.of(got.counted(free), got.result)
        found = [calls.syscall("fcntl64", fd, F_GETFD, 0) for fd in got.descriptors]
        flags.of([*map(int, found)], got.result, *found)
        for index, fd in enumerate(got.descriptors):
            expect(UDP.address(6000 + index), count=count, file=index).of(calls.name("getsockname", fd))
        descriptors.close(*got.descriptors)


@behaviour("transfer.control.rights-most", f"{SOURCE} SCM_MAX_FD; {KERNEL}; include/net/scm.h")
@each_kind
def test_most(kind, prepare, named, messages, descriptors, calls, expect):
    """A message carries 253 descriptors at most, of all its control messages together; with more sendmsg fails with EINVAL
    and sends nothing. They arrive in one control message.
    """
    end, (first, last) = prepare("connected", kind), named(2)
    for case, control in {
        "one": rights(*[int(first)] * MOST, int(last)),
        "two": rights(*[int(first)] * 200) + rights(*[int(first)] * 54),
    }.items():
        expect(-EINVAL, descriptors=MOST + 1, messages=case).of(messages.send(end.fd, control, b"n"))
    free = descriptors.lowest(end.fd, MOST)
    for case, control in {
        "one": rights(*[int(first)] * (MOST - 1), int(last)),
        "two": rights(*[int(first)] * 200) + rights(*[int(first)] * 52, int(last)),
    }.items():
        check = expect([1, b"x", rights(*range(MOST)), 0], descriptors=MOST, messages=case)
        messages.sent(end.fd, control)
        got = messages.receive(end.peer, ROOM_FOR_MOST)
        check.of(got.counted(free), got.result)
        for index in (0, 199, 200, 251, 252):
            check = expect(UDP.address(6000 + (index == 252)), descriptors=MOST, messages=case, file=index)
            check.of(calls.name("getsockname", got.descriptors[index]))
        descriptors.close(*got.descriptors)


@behaviour("transfer.control.rights-count", f"{SOURCE} SCM_MAX_FD; {KERNEL}; __scm_install_fd")
def test_count(prepare, messages, descriptors, expect):
    """Every number of descriptors up to 253 arrives in a room of 12 bytes and 4 for each, without MSG_CTRUNC."""
    end = prepare("connected", UNIX_DGRAM)
    free = descriptors.lowest(end.fd, MOST)
    check, wrong, results = expect({}, counts="sampled"), {}, []
    for count in (*range(1, 18), *(power + more for power in (32, 64, 128) for more in (-1, 0, 1)), MOST - 1):
        messages.sent(end.fd, rights(*[STDIN] * count))
        got = messages.receive(end.peer, 12 + 4 * count)
        if got.counted(free) != [1, b"x", rights(*range(count)), 0]:
            wrong[str(count)] = got.counted(free)
        results.append(got.result)
        descriptors.close(*got.descriptors)
    check.of(wrong, *results)


@behaviour("transfer.control.rights-room", f"{SOURCE} MSG_CTRUNC; recv(2) MSG_CTRUNC; {KERNEL}")
def test_room(prepare, messages, descriptors, expect):
    """Of two descriptors those are made that fit into msg_controllen, 12 bytes and 4 for each: none, msg_controllen 0 and
    nothing written below 16 bytes, one below 20. msg_flags has MSG_CTRUNC if one is missing.
    """
    end = prepare("connected", UNIX_DGRAM)
    free = descriptors.lowest(end.fd, 3)
    for room in range(65):
        fitting = min(2, max(0, (room - 12) // 4))
        control = rights(*range(fitting)) if fitting else b""
        check = expect([1, b"x", control, 0 if fitting == 2 else CTRUNC], room=room)
        made = expect(fitting, room=room, then="lowest-free")
        messages.sent(end.fd, rights(STDIN, STDIN))
        got = messages.receive(end.peer, room)
        check.of(got.counted(free), got.result)
        (lowest,) = descriptors.lowest(end.fd)
        made.of(free.index(lowest), got.result)
        descriptors.close(*free[: free.index(lowest)])


@behaviour("transfer.control.rights-fault", f"recv(2) EFAULT; {KERNEL}; put_user before fd_install")
def test_fault(prepare, messages, descriptors, memory, expect):
    """recvmsg whose control buffer cannot be written makes no descriptor, and returns the data with MSG_CTRUNC and
    msg_controllen 0. Of two descriptors the first is made, and written, if only the second has no room in memory.
    """
    end = prepare("connected", UNIX_DGRAM)
    free = descriptors.lowest(end.fd, 3)
    half = memory.guarded(16)
    written = expect(True, writable="half", then="control-data")
    for case, (at, control) in {"none": (memory.unmapped(), 0), "half": (half.address, 16)}.items():
        check = expect([1, b"x", control, CTRUNC], writable=case)
        made = expect(control // 16, writable=case, then="lowest-free")
        messages.sent(end.fd, rights(STDIN, STDIN))
        got = messages.receive(end.peer, at=at)
        check.of(got.seen(got.header[5]), got.result)
        (lowest,) = descriptors.lowest(end.fd)
        made.of(free.index(lowest), got.result)
        descriptors.close(*free[: free.index(lowest)])
    written.of(half.read() == rights(free[0]), got.result)


@behaviour("transfer.control.rights-discarded", f"{SOURCE} `automatically closed`; {KERNEL}; __scm_destroy")
@each_kind
def test_discarded(kind, prepare, messages, descriptors, calls, expect):
    """A descriptor that does not fit into the room for control data is closed: as the last of a connection it ends that.
    So is one of a message that is received without room, by read, or never.
    """
    for case in ("no-room", "read", "closed"):
        end, other = prepare("connected", kind), prepare("connected", UNIX_STREAM)
        messages.sent(end.fd, rights(other.peer))
        other.close_one(other.peer)
        check = expect([0, b""], message=case)
        if case == "no-room":
            got = messages.receive(end.peer, 0)
            need(got.result, "recvmsg", returns=1)
        elif case == "read":
            need(calls.syscall("read", end.peer, calls.memory.alloc(8), 8), "read", returns=1)
        else:
            end.close_one(end.peer)
            end.close_one(end.fd)
        last = messages.receive(other.fd)
        check.of([last.result, last.data], last.result)
        other.close()
        end.close()


@behaviour("transfer.control.rights-cloexec", f"recv(2) MSG_CMSG_CLOEXEC; {SOURCE}; receive_fd `o_flags`")
@each_kind
def test_cloexec(kind, prepare, messages, descriptors, calls, expect):
    """MSG_CMSG_CLOEXEC sets FD_CLOEXEC of the descriptors that recvmsg makes, and is in msg_flags. Without it they have no
    FD_CLOEXEC, whatever the descriptor that was passed has.
    """
    end, passed = prepare("connected", kind), prepare("unbound", UDP).fd
    free = descriptors.lowest(end.fd, 2)
    for own in (0, 1):
        need(calls.syscall("fcntl64", passed, F_SETFD, own))
        for flags in (0, MSG_CMSG_CLOEXEC):
            check = expect([1, b"x", rights(0, 1), flags], passed=own, flags=f"{flags:#x}")
            made = expect([int(flags != 0)] * 2, passed=own, flags=f"{flags:#x}", then="descriptor-flags")
            messages.sent(end.fd, rights(passed, passed))
            got = messages.receive(end.peer, flags=flags)
            check.of(got.counted(free), got.result)
            found = [calls.syscall("fcntl64", fd, F_GETFD, 0) for fd in got.descriptors]
            made.of([*map(int, found)], got.result, *found)
            descriptors.close(*got.descriptors)


@behaviour("transfer.control.rights-shared", f"{SOURCE} `open file description`, as by dup(2); {KERNEL}")
def test_shared(prepare, messages, descriptors, calls, expect):
    """A received descriptor refers to the open file description that was passed: they share the status flags, and what is
    sent on one comes from the socket of the other.
    """
    end, other = prepare("connected", UNIX_SEQPACKET), prepare("connected", UNIX_STREAM)
    messages.sent(end.fd, rights(other.fd))
    check = expect(O_RDWR | O_NONBLOCK, step="flags")
    got = messages.receive(end.peer)
    need(got.result, "recvmsg", returns=1)
    (received,) = got.descriptors
    need(calls.syscall("fcntl64", received, F_SETFL, O_RDWR | O_NONBLOCK), returns=0)
    after = calls.syscall("fcntl64", other.fd, F_GETFL, 0)
    check.of(int(after), got.result, after)
    check = expect([1, b"y", b"", 0], step="data")
    messages.sent(received, data=b"y")
    got = messages.receive(other.peer)
    check.of(got.value, got.result)
    need(calls.close(other.fd))
    check = expect([1, b"z", b"", 0], step="passed-is-closed")
    messages.sent(received, data=b"z")
    got = messages.receive(other.peer)
    check.of(got.value, got.result)


@behaviour("transfer.control.rights-bad", "unix(7) EBADF, EINVAL; scm_fp_copy, __scm_send")
@each_kind
def test_bad(kind, prepare, messages, descriptors, expect):
    """sendmsg fails with EBADF if one of the descriptors is not open, also behind others, and with EINVAL for an unknown
    type of SOL_SOCKET behind them. Nothing is sent, and no descriptor is kept.
    """
    end, other = prepare("connected", kind), prepare("connected", UNIX_STREAM)
    (closed,) = descriptors.lowest(end.fd)
    bad = {"minus-one": -1, "closed": closed, "beyond": 1 << 20, "most": 0x7FFFFFFF, "least": -0x80000000}
    for case, number in bad.items():
        expect(-EBADF, descriptor=case).of(messages.send(end.fd, rights(number)))
        expect(-EBADF, descriptor=case, behind="open").of(messages.send(end.fd, rights(other.peer, number)))
        second = rights(other.peer) + rights(number)
        expect(-EBADF, descriptor=case, behind="message").of(messages.send(end.fd, second))
    unknown = cmsg(socket.SOL_SOCKET, 0x7F, bytes(4))
    expect(-EINVAL, type="unknown").of(messages.send(end.fd, rights(other.peer) + unknown))
    check = expect([1, b"m", b"", 0], then="marker")
    messages.sent(end.fd, data=b"m")
    got = messages.receive(end.peer)
    check.of(got.value, got.result)
    # A reference that was kept would keep the connection open.
    check = expect([0, b""], then="closed")
    other.close_one(other.peer)
    last = messages.receive(other.fd)
    check.of([last.result, last.data], last.result)
