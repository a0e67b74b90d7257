"""SCM_CREDENTIALS, SCM_PIDFD and SCM_SECURITY: the sender that a message on an AF_UNIX socket comes with."""

import socket
import struct
from errno import EINVAL, EPERM, ESRCH
from fcntl import F_GETFD

import pytest

from probes.sandbox import namespaces
from probes.testing import behaviour, need, not_applicable, procfs
from probes.testing.socket_kinds import UNIX, UNIX_DGRAM
from tests.transfer.control_messages import SCM_CREDENTIALS, SCM_PIDFD, cmsg, rights
from tests.transfer.message_layouts import CMSGHDR

SOURCE = "unix(7) SO_PASSCRED, SCM_CREDENTIALS; cmsg(3)"
CTRUNC = socket.MSG_CTRUNC
STDIN = 0
#: include/uapi/asm-generic/socket.h.
SO_PASSSEC, SO_PASSPIDFD = 34, 76
#: The i386 table.
GETEUID32, GETEGID32, PIDFD_SEND_SIGNAL = 201, 202, 424
PIDFD_SINCE = "6.5"

each_kind = pytest.mark.parametrize("kind", UNIX, ids=str)


@pytest.fixture
def ucred(calls):
    """Packs a control message of SCM_CREDENTIALS: ucred(pid, uid, gid), by default with the caller's effective ids."""
    own = [need(calls.gate.quieted().enter(number), "the caller's ids") for number in (GETEUID32, GETEGID32)]

    def pack(pid, uid=own[0], gid=own[1]):
        return cmsg(socket.SOL_SOCKET, SCM_CREDENTIALS, struct.pack("<iII", pid, uid, gid))

    return pack


@behaviour("transfer.control.credentials", f"{SOURCE}; unix_maybe_add_creds, scm_recv, put_cmsg, put_cmsg_compat")
@each_kind
def test_credentials(kind, prepare, messages, calls, caller, ucred, expect):
    """With SO_PASSCRED each message comes with a control message of SCM_CREDENTIALS, 24 bytes, with the sender's process,
    user and group id, whichever call sent it; without the option none comes.
    """
    end = prepare("connected", kind)
    senders = {
        "sendmsg": lambda: messages.send(end.fd),
        "send": lambda: calls.make("send", end.fd, calls.pointer(b"x"), 1, 0),
        "write": lambda: calls.syscall("write", end.fd, calls.pointer(b"x"), 1),
    }
    for step, on in (("before", 0), ("on", 1), ("off", 0)):
        need(calls.setsockopt(end.peer, socket.SOL_SOCKET, socket.SO_PASSCRED, on), "SO_PASSCRED")
        for name, send in senders.items():
            check = expect([1, b"x", ucred(1) if on else b"", 0], option=step, sender=name)
            need(send(), name, returns=1)
            got = messages.receive(end.peer)
            check.of(got.counted(pid=caller.pid), got.result)


@behaviour("transfer.control.credentials-room", f"{SOURCE}; recv(2) MSG_CTRUNC; put_cmsg, put_cmsg_compat")
def test_room(prepare, messages, calls, caller, ucred, expect):
    """A control message that does not fit is cut to the room: below 12 bytes nothing is written, from 12 on cmsg_len is the
    room, and msg_flags has MSG_CTRUNC.
    """
    end = prepare("connected", UNIX_DGRAM)
    need(calls.setsockopt(end.peer, socket.SOL_SOCKET, socket.SO_PASSCRED, 1), "SO_PASSCRED")
    whole = ucred(1)
    for room in range(33):
        if room < CMSGHDR.size:
            value = [1, b"x", b"", CTRUNC]
        elif room < len(whole):
            value = [1, b"x", struct.pack("<I", room) + whole[4:room], CTRUNC]
        else:
            value = [1, b"x", whole, 0]
        check = expect(value, room=room)
        messages.sent(end.fd)
        got = messages.receive(end.peer, room)
        check.of(got.counted(pid=caller.pid), got.result)


@behaviour("transfer.control.credentials-sent", f"{SOURCE}; __scm_send, scm_check_creds")
@each_kind
def test_sent(kind, prepare, messages, calls, caller, ucred, expect):
    """The sender's own ids in SCM_CREDENTIALS are accepted without a capability, and arrive. A cmsg_len of other than 24
    fails with EINVAL.
    """
    end = prepare("connected", kind)
    need(calls.setsockopt(end.peer, socket.SOL_SOCKET, socket.SO_PASSCRED, 1), "SO_PASSCRED")
    caller.keep_capabilities(())
    check = expect([1, b"x", ucred(1), 0], sent="own")
    messages.sent(end.fd, ucred(caller.pid))
    got = messages.receive(end.peer)
    check.of(got.counted(pid=caller.pid), got.result)
    for size in (0, 4, 8, 11, 13, 16, 24):
        data = ucred(caller.pid)[12:].ljust(24, b"\0")[:size]
        expect(-EINVAL, bytes=size).of(messages.send(end.fd, cmsg(socket.SOL_SOCKET, SCM_CREDENTIALS, data), b"n"))
    check = expect([1, b"m", ucred(1), 0], then="marker")
    messages.sent(end.fd, data=b"m")
    got = messages.receive(end.peer)
    check.of(got.counted(pid=caller.pid), got.result)


@behaviour("transfer.control.credentials-of-process", "unix(7) CAP_SYS_ADMIN, ESRCH; __scm_send, scm_check_creds")
def test_of_process(prepare, messages, calls, caller, ucred, expect):
    """With CAP_SYS_ADMIN in the user namespace of its pid namespace a process may send the id of another one, which arrives;
    the id of no process fails with ESRCH.
    """
    caller.keep_capabilities(("CAP_SYS_ADMIN",))
    end = prepare("connected", UNIX_DGRAM)
    need(calls.setsockopt(end.peer, socket.SOL_SOCKET, socket.SO_PASSCRED, 1), "SO_PASSCRED")
    check = expect([1, b"x", ucred(1), 0], process="init")
    messages.sent(end.fd, ucred(1))
    got = messages.receive(end.peer)
    check.of(got.value, got.result)
    for case, pid in {"none": 0x3FFFFFFF, "zero": 0, "negative": -1}.items():
        expect(-ESRCH, process=case).of(messages.send(end.fd, ucred(pid)))


@behaviour("transfer.control.credentials-forged", f"{SOURCE}; unix(7) EPERM; credentials(7); scm_check_creds")
@pytest.mark.sandbox(ids=2)
def test_forged(prepare, messages, caller, ucred, expect):
    """The ids of another process, user or group in SCM_CREDENTIALS fail with EPERM without CAP_SYS_ADMIN, CAP_SETUID and
    CAP_SETGID; an id without a mapping in the user namespace fails with EINVAL. Nothing is sent.
    """
    end, other = prepare("connected", UNIX_DGRAM), namespaces.OTHER_IDS[0]
    caller.keep_capabilities(())
    forged = {
        "process": ucred(1), "user": ucred(caller.pid, uid=other), "group": ucred(caller.pid, gid=other),
        "all": ucred(1, other, other),
    }  # fmt: skip
    for case, control in forged.items():
        expect(-EPERM, forged=case).of(messages.send(end.fd, control, b"n"))
    for case, control in {
        "user": ucred(caller.pid, uid=0xFFFFFFFF), "group": ucred(caller.pid, gid=0xFFFFFFFF)
    }.items():  # fmt: skip
        expect(-EINVAL, unmapped=case).of(messages.send(end.fd, control, b"n"))
    check = expect([1, b"m", b"", 0], then="marker")
    messages.sent(end.fd, data=b"m")
    got = messages.receive(end.peer)
    check.of(got.value, got.result)


@behaviour("transfer.control.credentials-order", f"{SOURCE}; scm_recv: SCM_CREDENTIALS before SCM_RIGHTS")
@each_kind
def test_order(kind, prepare, messages, descriptors, calls, caller, ucred, expect):
    """Of a message with both, SCM_CREDENTIALS comes first, SCM_RIGHTS behind it at a multiple of 4; a room for the first
    alone has MSG_CTRUNC and makes no descriptor.
    """
    end = prepare("connected", kind)
    need(calls.setsockopt(end.peer, socket.SOL_SOCKET, socket.SO_PASSCRED, 1), "SO_PASSCRED")
    for room in (24, 39, 40, 64):
        (free,) = descriptors.lowest(end.fd)
        fits = room >= 40
        check = expect([1, b"x", ucred(1) + (rights(0) if fits else b""), 0 if fits else CTRUNC], room=room)
        made = expect(fits, room=room, then="lowest-free-taken")
        messages.sent(end.fd, rights(STDIN))
        got = messages.receive(end.peer, room)
        (lowest,) = descriptors.lowest(end.fd)
        check.of(got.counted([free], caller.pid), got.result)
        made.of(lowest != free, got.result)
        if fits:
            descriptors.close(free)


@behaviour("transfer.control.pidfd", "include/uapi/asm-generic/socket.h SO_PASSPIDFD; scm_pidfd_recv; pidfd_open(2)")
@each_kind
def test_pidfd(kind, prepare, messages, descriptors, calls, caller, expect):
    """With SO_PASSPIDFD each message comes with SCM_PIDFD, 16 bytes: a new pidfd, the lowest free descriptor, of the process
    that sent it, with FD_CLOEXEC; a room without place for it has MSG_CTRUNC and leaves no descriptor.
    """
    if not expect.reference.has(PIDFD_SINCE):
        not_applicable(f"Linux {PIDFD_SINCE}, which introduced SO_PASSPIDFD")
    end = prepare("connected", kind)
    need(calls.setsockopt(end.peer, socket.SOL_SOCKET, SO_PASSPIDFD, 1), "SO_PASSPIDFD")
    (free,) = descriptors.lowest(end.fd)
    check = expect([1, b"x", cmsg(socket.SOL_SOCKET, SCM_PIDFD, bytes(4)), 0], room=64)
    flags, alive = expect(1, then="descriptor-flags"), expect(0, then="signal-0")
    messages.sent(end.fd)
    got = messages.receive(end.peer, 64)
    check.of(got.counted([free]), got.result)
    found = calls.syscall("fcntl64", free, F_GETFD, 0)
    flags.of(int(found), got.result, found)
    sent = calls.gate.enter(PIDFD_SEND_SIGNAL, free, 0, 0, 0)
    alive.of(int(sent), got.result, sent)
    descriptors.close(free)
    for room in (0, 11, 15):
        check = expect([1, b"x", CTRUNC, True], room=room)
        messages.sent(end.fd)
        got = messages.receive(end.peer, room)
        check.of([got.result, got.data, got.flags, descriptors.lowest(end.fd) == [free]], got.result)


@behaviour("transfer.control.security-absent", "unix(7) SCM_SECURITY, SO_PASSSEC; scm_passec, security_secid_to_secctx")
@each_kind
def test_security(kind, prepare, messages, calls, expect):
    """With SO_PASSSEC a message has no SCM_SECURITY where no security module labels sockets."""
    if procfs.labels_sockets():
        not_applicable("a kernel without a security module that labels sockets")
    end = prepare("connected", kind)
    need(calls.setsockopt(end.peer, socket.SOL_SOCKET, SO_PASSSEC, 1), "SO_PASSSEC")
    check = expect([1, b"x", b"", 0], option=1)
    messages.sent(end.fd)
    got = messages.receive(end.peer)
    check.of(got.value, got.result)
