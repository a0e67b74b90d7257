"""Calls that need a capability: refused without it, and then nothing is done."""

import fcntl
import os
import socket
import struct
from errno import EACCES, EPERM
from pathlib import Path
from typing import NamedTuple

import pytest

from probes.abi import sockaddr
from probes.entry.memory import pack_words
from probes.sandbox import namespaces
from probes.testing import VersionDifference, behaviour, not_applicable
from probes.testing.procfs import lowest
from tests.entry.entry_calls import own

SOURCE = (
    "capabilities(7) CAP_NET_ADMIN, CAP_NET_BIND_SERVICE, CAP_NET_RAW, CAP_SYS_CHROOT; S2 4.4 capable(); ns_capable"
)
SOURCE_FIRST = (
    "capabilities(7); user_namespaces(7); S2 4.4 capable(), `change its nice value`; kernel/capability.c capable"
)
#: socket(7) of later releases: `CAP_NET_ADMIN or CAP_NET_RAW (since Linux 5.17)`.
RAW_TOO = "commits 079925cce1d0 SO_MARK, e42c7beee71d SO_PRIORITY: CAP_NET_RAW as well"
ADMIN, PORTS, RAW, CHROOT = "CAP_NET_ADMIN", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SYS_CHROOT"
NICE = "CAP_SYS_NICE"
SIOCGIFFLAGS, SIOCSIFFLAGS, UP_PROMISCUOUS = 0x8913, 0x8914, 0x101
SO_PRIORITY, SO_MARK, IP_TRANSPARENT, TCP_REPAIR = 12, 36, 19, 19


class Privileged(NamedTuple):
    """A call, what it is for, its words, the capabilities of which one will do, and what it answers without them."""

    call: str
    what: str
    words: tuple
    needs: tuple
    error: int = -EPERM

    def answer(self, kept, fd):
        """What the call answers to somebody with these capabilities; `fd` is the descriptor if it makes one."""
        value = fd if self.call == "socket" else 0
        if self.what in ("SO_MARK", "SO_PRIORITY") and RAW in kept and ADMIN not in kept:
            return VersionDifference("5.17", before=self.error, after=value, cite=RAW_TOO)
        return value if set(self.needs) & set(kept) else self.error


@pytest.fixture
def privileged(memory, keep):
    """The calls that need a capability in the user namespace that the network belongs to, or in one's own."""
    tcp, bound = keep(*(socket.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(2)))
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
    fd, put, one = tcp.fileno(), memory.put, memory.words(1)
    flags = put(struct.pack("16sh14x", b"lo", UP_PROMISCUOUS))
    return [
        Privileged("socket", "raw", (socket.AF_INET, socket.SOCK_RAW, 253), (RAW,)),
        Privileged("setsockopt", "SO_BINDTODEVICE", (bound.fileno(), 1, 25, put(b"lo"), 2), (RAW,)),
        Privileged("setsockopt", "IP_TRANSPARENT", (fd, 0, IP_TRANSPARENT, one, 4), (RAW, ADMIN)),
        Privileged("setsockopt", "SO_MARK", (fd, 1, SO_MARK, one, 4), (ADMIN,)),
        Privileged("setsockopt", "SO_PRIORITY", (fd, 1, SO_PRIORITY, put(pack_words(7)), 4), (ADMIN,)),
        Privileged("setsockopt", "TCP_REPAIR", (fd, 6, TCP_REPAIR, one, 4), (ADMIN,)),
        Privileged("bind", "port", (fd, put(sockaddr.inet("127.0.0.1", 80)), 16), (PORTS,), -EACCES),
        Privileged("ioctl", "SIOCSIFFLAGS", (fd, SIOCSIFFLAGS, flags), (ADMIN,)),
        # The last: where it is done there is no /proc any more.
        Privileged("chroot", "chroot", (put(b".\0"),), (CHROOT,)),
    ]


def kept_by(who):
    """The capabilities that somebody keeps: none, one, all but one, or all."""
    if who in ("none", "all"):
        return [] if who == "none" else list(namespaces.CAPABILITIES)
    name = who.removeprefix("all-but-")
    return [name] if name == who else [other for other in namespaces.CAPABILITIES if other != name]


EACH = (ADMIN, PORTS, RAW, CHROOT)


@behaviour("entry.capability.refused", SOURCE)
@pytest.mark.parametrize("who", ["none", "all", *EACH, *(f"all-but-{name}" for name in EACH)])
def test_refused(who, privileged, entry, enter, expect):
    """A call that needs a capability is refused without it, whatever others there are, and done with it alone."""
    kept = kept_by(who)
    namespaces.keep_capabilities(kept)
    for case in own(entry.route, privileged):
        fd = lowest()[0] if case.call == "socket" else -1
        check = expect(case.answer(kept, fd), call=case.call, what=case.what)
        check.of(enter(case.call, *case.words))


@behaviour("entry.capability.nothing-done", SOURCE)
def test_nothing_done(privileged, entry, enter, keep, expect):
    """A call that is refused for want of a capability has done nothing: no descriptor, no option, no name, no flag."""
    namespaces.keep_capabilities(())
    (fd,) = (case.words[0] for case in privileged if case.call == "bind")
    sock = keep(socket.socket(fileno=os.dup(fd)))
    for case in own(entry.route, privileged):
        before = state(sock)
        check = expect([case.error, before], call=case.call, what=case.what)
        result = enter(case.call, *case.words)
        check.of([result, state(sock)], result)


def state(sock):
    """What the calls of `privileged` would change."""
    options = [sock.getsockopt(*option) for option in ((1, SO_MARK), (1, SO_PRIORITY), (0, IP_TRANSPARENT))]
    flags = fcntl.ioctl(sock, SIOCGIFFLAGS, struct.pack("16s16x", b"lo"))
    return [lowest()[0], *options, sock.getsockname(), flags, str(Path("/proc/self/root").readlink())]


#: Options that ask for a capability in the initial user namespace, and what they answer without it.
FIRST = {"SO_SNDBUFFORCE": (32, -EPERM), "SO_RCVBUFFORCE": (33, -EPERM), "SO_DEBUG": (1, -EACCES)}


def first(enter, memory, udp):
    """What needs a capability in the initial user namespace: the name, the error, and the call."""
    value = memory.words(1)
    for name, (option, error) in FIRST.items():
        yield name, error, lambda option=option: enter("setsockopt", udp, socket.SOL_SOCKET, option, value, 4)
    yield "nice", -EPERM, lambda: enter("nice", -5)


@behaviour("entry.capability.other-namespace", SOURCE_FIRST)
def test_other_namespace(enter, memory, keep, expect, request):
    """What asks for a capability in the initial user namespace is refused to somebody who has them all in another."""
    if request.config.getoption("isolation") != "full":
        not_applicable("a user namespace of the sandbox's own")
    udp = keep(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)).fileno()
    for name, error, call in first(enter, memory, udp):
        expect(error, what=name).of(call())


@behaviour("entry.capability.initial-namespace", SOURCE_FIRST)
@pytest.mark.sandbox(initial_user_ns=True)
@pytest.mark.parametrize("who", ["none", ADMIN, NICE])
def test_initial_namespace(who, enter, memory, keep, expect):
    """What asks for a capability in the initial user namespace is done with it, and refused without it."""
    # The initial one maps every id to itself (user_namespaces(7)).
    if Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"]:
        not_applicable("the initial user namespace")
    kept = kept_by(who)
    try:
        namespaces.keep_capabilities(kept)
    except PermissionError:
        not_applicable(f"{who}: this root does not have it")
    udp = keep(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)).fileno()
    before = os.getpriority(os.PRIO_PROCESS, 0)
    for name, error, call in first(enter, memory, udp):
        needed = NICE if name == "nice" else ADMIN
        expect(0 if needed in kept else error, what=name).of(call())
    last = enter("getpid")
    change = os.getpriority(os.PRIO_PROCESS, 0) - before
    expect(-5 if NICE in kept else 0, what="nice", afterwards="change").of(change, last)
