"""sendmsg with malformed control data: wrong lengths, memory that cannot be read, types that do not exist."""

import socket
import struct
from errno import EFAULT, EINVAL, ENOBUFS, ENOMEM

import pytest

from probes.testing import AbiDifference, behaviour, need, procfs
from probes.testing.socket_kinds import TCP, UDP, UDP6, UNIX_DGRAM, UNIX_STREAM
from tests.transfer.control_messages import cmsg, rights
from tests.transfer.message_layouts import CMSGHDR

SOURCE = "sendmsg(2) msg_control, msg_controllen; cmsg(3)"
KERNEL = "____sys_sendmsg, cmsghdr_from_user_compat_to_kern"
#: Native i386 has no message in less than 12 bytes, and reads them all; compat reads the headers first.
CITE = (
    "net/compat.c cmsghdr_from_user_compat_to_kern `kcmlen == 0`; native: ____sys_sendmsg copy_from_user, CMSG_FIRSTHDR"
)
#: Native i386 needs room for a whole header behind a message, compat for a byte.
CITE_NEXT = "include/linux/socket.h __cmsg_nxthdr `__ptr+1`; net/compat.c cmsg_compat_nxthdr `ptr + 1`, a char pointer"
CITE_LONGEST = "net/compat.c cmsghdr_from_user_compat_to_kern `-ENOMEM`; native: ____sys_sendmsg `-ENOBUFS`"
STDIN = 0
#: A level that no protocol of KINDS has.
UNKNOWN = 0x7F
#: Kinds of sockets that parse control messages of other levels, each at another place of the kernel.
KINDS = (UNIX_DGRAM, UDP, TCP)
#: Bytes of control data.
SIZE = 32
EXTREMES = (0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFC, 0xFFFFFFFF)

each_kind = pytest.mark.parametrize("kind", KINDS, ids=str)


@pytest.fixture
def marker(messages, expect):
    """Judges that nothing is queued: what is sent now arrives as the next message."""

    def judge(end, **case):
        check = expect([1, b"m", b"", 0], **case, then="marker")
        messages.sent(end.fd, data=b"m")
        got = messages.receive(end.peer)
        check.of(got.value, got.result)

    return judge


@behaviour("transfer.control.length", f"{SOURCE}; {KERNEL}; CMSG_OK, CMSG_COMPAT_OK")
@each_kind
def test_length(kind, prepare, messages, marker, expect):
    """sendmsg fails with EINVAL, and sends nothing, if a cmsg_len is less than 12 or more than is left of msg_controllen."""
    end = prepare("connected", kind)
    # A level that no protocol has, so that the data means nothing.
    for length in (*range(SIZE + 5), *EXTREMES):
        check = expect(answer(length, SIZE - (length + 3 & ~3)) if length <= SIZE else -EINVAL, cmsg_len=length)
        sent = messages.send(end.fd, CMSGHDR.pack(length, UNKNOWN, 0).ljust(SIZE, b"\0"))
        check.of(sent)
        take(messages, end, sent)
    marker(end, lengths="refused")


def answer(length, left):
    """Returns what sendmsg returns for a first cmsg_len that fits, with so many zeros left behind it."""
    if length < CMSGHDR.size or left >= CMSGHDR.size:
        return -EINVAL
    return AbiDifference(1, -EINVAL, CITE_NEXT) if left else 1


def take(messages, end, sent):
    """Receives what a call has sent."""
    if sent > 0:
        need(messages.receive(end.peer).result, "recvmsg", returns=1)


@behaviour("transfer.control.second", f"{SOURCE} CMSG_NXTHDR; {KERNEL}; __cmsg_nxthdr, cmsg_compat_nxthdr")
@each_kind
def test_second(kind, prepare, messages, marker, expect):
    """The next control message begins at the next multiple of 4: there, after a cmsg_len of 13 to 16, its cmsg_len is read.
    With less than 12 bytes left a native kernel sees none; the compat entry refuses it with EINVAL.
    """
    end = prepare("connected", kind)
    for first in (12, 13, 16):
        before = CMSGHDR.pack(first, UNKNOWN, 0).ljust(first + 3 & ~3, b"\xee")
        for length in (0, 11, 12, 13, 15, 16, 17, 20, *EXTREMES):
            fits = CMSGHDR.size <= length <= 16
            check = expect(answer(length, 16 - (length + 3 & ~3)) if fits else -EINVAL, first=first, second=length)
            sent = messages.send(end.fd, before + CMSGHDR.pack(length, UNKNOWN, 0) + b"\xee" * 4)
            check.of(sent)
            take(messages, end, sent)
        for left in (1, 3, 4, 8, 11):
            # cmsg_len is readable whatever is left of msg_controllen.
            check = expect(AbiDifference(1, -EINVAL, CITE_NEXT), first=first, left=left)
            sent = messages.send(end.fd, before + bytes(CMSGHDR.size), controllen=len(before) + left)
            check.of(sent)
            take(messages, end, sent)
    marker(end, seconds="refused")


@behaviour("transfer.control.short", f"{SOURCE}; {KERNEL}")
@each_kind
def test_short(kind, prepare, messages, expect):
    """Control data of 1 to 11 bytes has no room for a header: it is refused with EINVAL by the compat entry, ignored by a
    native kernel. No bytes at all are no control data, whatever the pointer.
    """
    end = prepare("connected", kind)
    for size in range(1, CMSGHDR.size):
        check = expect(AbiDifference(1, -EINVAL, CITE), controllen=size)
        sent = messages.send(end.fd, struct.pack("<I", size).ljust(size, b"\0")[:size])
        check.of(sent)
        take(messages, end, sent)
    for case, at in {"null": 0, "top": 0xFFFFFFFF, "no-access": messages.calls.memory.unmapped()}.items():
        check = expect(1, controllen=0, pointer=case)
        sent = messages.send(end.fd, at=at, controllen=0)
        check.of(sent)
        take(messages, end, sent)


@behaviour("transfer.control.unreadable", f"{SOURCE}; sendmsg(2) EFAULT; {KERNEL} get_user, copy_from_user")
@each_kind
def test_unreadable(kind, prepare, messages, marker, memory, expect):
    """sendmsg fails with EFAULT, and sends nothing, if the control data cannot be read: its first byte, a later one, or a
    NULL pointer on a native kernel. The compat entry fails with EINVAL for NULL, and for less than 12 bytes.
    """
    end = prepare("connected", kind)
    hole, top = memory.unmapped(), 0xFFFFFFFF
    for size in (12, 16, 24, 64):
        expect(-EFAULT, pointer="no-access", controllen=size).of(messages.send(end.fd, at=hole, controllen=size))
        expect(-EFAULT, pointer="top", controllen=size).of(messages.send(end.fd, at=top, controllen=size))
    for size in (1, 8, 11):
        check = expect(AbiDifference(-EFAULT, -EINVAL, CITE), pointer="no-access", controllen=size)
        check.of(messages.send(end.fd, at=hole, controllen=size))
    for size in (1, 8, 12, 16, 24):
        check = expect(AbiDifference(-EFAULT, -EINVAL, CITE), pointer="null", controllen=size)
        check.of(messages.send(end.fd, at=0, controllen=size))
    whole = cmsg(UNKNOWN, 0, bytes(12))
    for readable in (4, 12, 16, 23):
        cut = memory.guarded(whole[:readable]).address
        expect(-EFAULT, readable=readable).of(messages.send(end.fd, at=cut, controllen=len(whole)))
    marker(end, memory="refused")


@behaviour("transfer.control.too-long", f"{SOURCE}; sendmsg(2) ENOBUFS; ____sys_sendmsg `msg_controllen > INT_MAX`")
@each_kind
def test_too_long(kind, prepare, messages, marker, expect):
    """sendmsg with a msg_controllen over INT_MAX fails with ENOBUFS, whatever the pointer, and sends nothing."""
    end = prepare("connected", kind)
    control = messages.calls.memory.put(rights(STDIN)).address
    for length in (0x80000000, 0x80000001, 0xFFFFFFF0, 0xFFFFFFFF):
        for case, at in {"null": 0, "readable": control, "no-access": messages.calls.memory.unmapped()}.items():
            check = expect(-ENOBUFS, controllen=f"{length:#x}", pointer=case)
            check.of(messages.send(end.fd, at=at, controllen=length))
    marker(end, controllen="refused")


@behaviour("transfer.control.unknown", f"{SOURCE}; __scm_send, __sock_cmsg_send, ip_cmsg_send, ip6_datagram_send_ctl")
def test_unknown(prepare, messages, marker, expect):
    """A control message of a type that its level does not have fails with EINVAL; one of a level that is not the socket's,
    nor SOL_SOCKET, is ignored. Nothing of a refused one is sent.
    """
    levels = {
        UNIX_STREAM: (), UNIX_DGRAM: (), UDP: (socket.IPPROTO_IP,), UDP6: (socket.IPPROTO_IPV6,), TCP: ()
    }  # fmt: skip
    for kind, own in levels.items():
        end = prepare("connected", kind)
        for level in (socket.SOL_SOCKET, *own):
            for number in (0, 0x7F, -1):
                control = cmsg(level, number, bytes(4))
                expect(-EINVAL, kind=kind, level=level, type=number).of(messages.send(end.fd, control))
        for level in sorted({-1, UNKNOWN, socket.IPPROTO_TCP, socket.IPPROTO_IP} - {*own}):
            check = expect(1, kind=kind, level=level)
            sent = messages.send(end.fd, cmsg(level, 0x7F, bytes(4)))
            check.of(sent)
            take(messages, end, sent)
        marker(end, kind=kind)
        end.close()


@behaviour(
    "transfer.control.longest",
    "socket(7) optmem_max; cmsg(3); sendmsg(2) ENOBUFS; ____sys_sendmsg, sock_kmalloc `< optmem_max`",
    tag="implementation",
)
@each_kind
def test_longest(kind, prepare, messages, marker, memory, expect):
    """Control data as long as net.core.optmem_max fails with ENOBUFS, over the compat entry with ENOMEM, and sends nothing;
    16 bytes less are accepted, also where a header becomes 4 bytes longer.
    """
    end, (most,) = prepare("connected", kind), procfs.sysctl("net.core.optmem_max")
    block = memory.put(bytes(most + CMSGHDR.size))
    refused = AbiDifference(-ENOBUFS, -ENOMEM, CITE_LONGEST)
    for case, size, expected in (("most", most, refused), ("16-less", most - 16, 1), ("12-more", most + 12, refused)):
        block.write(CMSGHDR.pack(size, UNKNOWN, 0))
        check = expect(expected, controllen=case)
        sent = messages.send(end.fd, at=block.address, controllen=size)
        check.of(sent)
        take(messages, end, sent)
    marker(end, controllen="refused")
