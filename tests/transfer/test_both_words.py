"""One socket used by processes of both word sizes: what the one sets and sends, the other reads and receives."""

import os
import socket
import struct

import pytest

from probes.entry import gate as own
from probes.entry.agent import AgentError
from probes.entry.calls import Calls
from probes.entry.gate import WORD
from probes.entry.memory import Memory
from probes.testing import behaviour, need, not_applicable
from probes.testing.caller import AgentCaller, PythonCaller
from probes.testing.socket_kinds import UDP, UNIX_DGRAM
from tests.transfer.control_messages import SCM_CREDENTIALS, Messages, cmsg, rights

SOURCE = "socket(7); net/compat.c, include/uapi/asm-generic/socket.h"
SOL_SOCKET = socket.SOL_SOCKET
#: include/uapi/asm-generic/socket.h: options with struct timeval of 8 and of 16 bytes.
TIMEOUTS = {"SO_RCVTIMEO": (20, 66), "SO_SNDTIMEO": (21, 67)}
OLD, NEW = struct.Struct("<ii"), struct.Struct("<qq")
SO_ATTACH_FILTER, SO_TIMESTAMP_OLD, SO_TIMESTAMP_NEW = 26, 29, 63
#: The i386 table.
GETEUID32, GETEGID32 = 201, 202


class OtherWord:
    """Is a process of the other word size beside the caller: its calls are set-up, and not traced."""

    def __init__(self, caller, route):
        """Starts it. Not applicable if there is none."""
        if WORD != 64:
            not_applicable("a 64-bit process")
        self._caller = caller
        if isinstance(caller, PythonCaller):
            try:
                self._agent = AgentCaller(stopped=False)
            except (AgentError, OSError) as error:
                not_applicable(f"32-bit programs: {error}")
            gate, memory = self._agent.gate("int80"), self._agent.memory()
            self.pid = self._agent.pid
        else:
            self._agent = None
            gate, memory = own.gate("int80"), Memory()
            self.pid = os.getpid()
        self.calls = Calls(gate.quieted(), route, memory)
        self.messages = Messages(self.calls)

    def take(self, fd):
        """Returns a descriptor that it has of a socket of the caller (pidfd_getfd)."""
        return self._caller.lend(fd) if self._agent is None else self._agent.adopt(fd)


@pytest.fixture
def other(caller, calls):
    """A process of the other word size."""
    return OtherWord(caller, calls.route)


@behaviour(
    "transfer.timeout.both-words", f"{SOURCE} SO_RCVTIMEO_OLD, SO_RCVTIMEO_NEW; sock_set_timeout, sock_get_timeout"
)
def test_timeouts(new_socket, other, calls, expect):
    """What a process of one word size has set as a timeout, by the old or the new option, a process of the other word size
    reads by both, each in its own layout.
    """
    sock = int(new_socket(*UDP.triple))
    taken = other.take(sock)
    for name, (old, new) in TIMEOUTS.items():
        for form, number, layout, seconds in (("old", old, OLD, 3), ("new", new, NEW, 5)):
            need(other.calls.setsockopt(taken, SOL_SOCKET, number, layout.pack(seconds, 500_000)), name)
            for read, at, shown in (("old", old, OLD), ("new", new, NEW)):
                check = expect(shown.pack(seconds, 500_000), option=name, set=form, read=read)
                check.of(calls.getsockopt(sock, SOL_SOCKET, at, 16))


@behaviour("transfer.timeout.both-words-set", f"{SOURCE} SO_RCVTIMEO_OLD, SO_RCVTIMEO_NEW; sock_set_timeout")
def test_set(new_socket, other, calls, expect):
    """The last of two settings counts, whichever process and option made it."""
    sock = int(new_socket(*UDP.triple))
    taken = other.take(sock)
    for name, (old, new) in TIMEOUTS.items():
        need(other.calls.setsockopt(taken, SOL_SOCKET, new, NEW.pack(7, 0)), name)
        expect(0, option=name, set="old").of(calls.setsockopt(sock, SOL_SOCKET, old, OLD.pack(9, 500_000)))
        check = expect(NEW.pack(9, 500_000), option=name, set="old", read="new")
        check.of(calls.getsockopt(sock, SOL_SOCKET, new, 16))
        need(other.calls.setsockopt(taken, SOL_SOCKET, old, OLD.pack(0, 0)), name)
        expect(NEW.pack(0, 0), option=name, set="zero", read="new").of(calls.getsockopt(sock, SOL_SOCKET, new, 16))


@behaviour(
    "transfer.control.both-words",
    "unix(7) SCM_RIGHTS, SCM_CREDENTIALS; put_cmsg, put_cmsg_compat",
)
def test_control(prepare, other, messages, descriptors, calls, expect):
    """Control data that a process of one word size sends arrives in the layout of the one that receives it: descriptors, and
    the credentials of the sender. What is received is a descriptor of the sender's socket.
    """
    end = prepare("connected", UNIX_DGRAM)
    taken, (free,) = other.take(end.fd), descriptors.lowest(end.fd)
    made = need(other.calls.socket(*UDP.triple), "socket")
    need(other.calls.bind(made, UDP.address(6000)), "bind")
    need(calls.setsockopt(end.peer, SOL_SOCKET, socket.SO_PASSCRED, 1), "SO_PASSCRED")
    ids = [need(other.calls.gate.enter(number), "its ids") for number in (GETEUID32, GETEGID32)]
    credentials = cmsg(SOL_SOCKET, SCM_CREDENTIALS, struct.pack("<iII", 1, *ids))
    check = expect([1, b"x", credentials + rights(0), 0], sender="other")
    name = expect(UDP.address(6000), sender="other", then="getsockname")
    other.messages.sent(taken, rights(made))
    got = messages.receive(end.peer)
    check.of(got.counted([free], other.pid), got.result)
    name.of(calls.name("getsockname", free))


@behaviour(
    "transfer.control.both-words-received", "unix(7) SCM_RIGHTS; cmsghdr_from_user_compat_to_kern, scm_detach_fds"
)
def test_received(prepare, new_socket, other, messages, expect):
    """Control data arrives at a process of the other word size as it was sent: one descriptor, in 16 bytes."""
    end, passed = prepare("connected", UNIX_DGRAM), new_socket(*UDP.triple)
    need(passed.bind(UDP.address(6000)))
    taken = other.take(end.peer)
    sent, check = expect(1, step="sent"), expect([16, 1, UDP.address(6000)], step="received")
    result = messages.send(end.fd, rights(int(passed)))
    sent.of(result)
    got = other.messages.receive(taken)
    found = [other.calls.name("getsockname", fd).bytes for fd in got.descriptors]
    check.of([len(got.control), len(found), *found], result)


@behaviour("transfer.control.both-words-timestamp", "socket(7) SO_TIMESTAMP; sock_set_timestamp, __sock_recv_timestamp")
def test_timestamp(prepare, other, calls, messages, expect):
    """A time stamp comes in the layout of the option, old or new, that any process has set, not in that of the word size."""
    end = prepare("connected", UDP)
    taken = other.take(end.fd)
    for name, number, size in (("new", SO_TIMESTAMP_NEW, 28), ("old", SO_TIMESTAMP_OLD, 20)):
        need(other.calls.setsockopt(taken, SOL_SOCKET, number, 1), "SO_TIMESTAMP")
        check = expect([1, size, [size, SOL_SOCKET, number]], set=name)
        messages.sent(end.peer)
        got = messages.receive(end.fd)
        head = [*struct.unpack_from("<Iii", got.control)] if got.control else []
        check.of([got.result, len(got.control), head], got.result)


@behaviour("transfer.control.both-words-filter", "socket(7) SO_ATTACH_FILTER; copy_bpf_fprog_from_user, sk_get_filter")
def test_filter(prepare, other, calls, messages, expect):
    """A socket filter that a process of the other word size attached, by a struct sock_fprog of 8 bytes, is in force."""
    end = prepare("connected", UDP)
    taken, memory = other.take(end.fd), other.calls.memory
    # A program that keeps the UDP header and two bytes of data: BPF_RET | BPF_K, 10.
    program = memory.put(struct.pack("<HBBI", 0x06, 0, 0, 10))
    need(
        other.calls.setsockopt(taken, SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("<HxxI", 1, program.address)), "filter"
    )
    check = expect([2, b"fi", b"", 0], filter="two-bytes")
    messages.sent(end.peer, data=b"filtered")
    got = messages.receive(end.fd)
    check.of(got.value, got.result)
