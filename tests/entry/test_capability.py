"""Judges the calls that need a capability: without it they fail and change nothing."""

import fcntl
import os
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from errno import EACCES, EPERM
from pathlib import Path
from typing import SupportsInt

import pytest

from probes.abi import sockaddr
from probes.entry.memory import Memory, pack_words
from probes.sandbox import namespaces
from probes.testing import VersionDifference, behaviour, not_applicable
from probes.testing.caller import Caller, require_capabilities
from probes.testing.procfs import lowest
from tests.entry.documented_calls import judged_over

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


@dataclass(frozen=True)
class Privileged:
    """A call that needs a capability, with its words: one of `needs` is enough, without it the call gives `error`."""

    name: str
    what: str
    words: tuple[SupportsInt, ...]
    needs: tuple[str, ...]
    error: int = -EPERM

    def returns(self, kept: Sequence[str], value: int = 0) -> int | VersionDifference:
        """Returns the result for a caller with the capabilities `kept`: `value` if they are enough."""
        if self.what in ("SO_MARK", "SO_PRIORITY") and RAW in kept and ADMIN not in kept:
            return VersionDifference("5.17", before=self.error, after=value, cite=RAW_TOO)
        return value if set(self.needs) & set(kept) else self.error


@pytest.fixture
def privileged(memory: Memory, caller: Caller, keep: Callable[[socket.socket], socket.socket]) -> list[Privileged]:
    """Lists the calls that need a capability in the user namespace of the network, chroot in the caller's own."""
    tcp, bound = (keep(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) for _ in range(2))
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
    fd, put, one = caller.adopt(tcp.fileno()), memory.put, memory.words(1)
    flags = put(struct.pack("16sh14x", b"lo", UP_PROMISCUOUS))
    return [
        Privileged("socket", "raw", (socket.AF_INET, socket.SOCK_RAW, 253), (RAW,)),
        Privileged("setsockopt", "SO_BINDTODEVICE", (caller.adopt(bound.fileno()), 1, 25, put(b"lo"), 2), (RAW,)),
        Privileged("setsockopt", "IP_TRANSPARENT", (fd, 0, IP_TRANSPARENT, one, 4), (RAW, ADMIN)),
        Privileged("setsockopt", "SO_MARK", (fd, 1, SO_MARK, one, 4), (ADMIN,)),
        Privileged("setsockopt", "SO_PRIORITY", (fd, 1, SO_PRIORITY, put(pack_words(7)), 4), (ADMIN,)),
        Privileged("setsockopt", "TCP_REPAIR", (fd, 6, TCP_REPAIR, one, 4), (ADMIN,)),
        Privileged("bind", "port", (fd, put(sockaddr.inet("127.0.0.1", 80)), 16), (PORTS,), -EACCES),
        Privileged("ioctl", "SIOCSIFFLAGS", (fd, SIOCSIFFLAGS, flags), (ADMIN,)),
        # chroot comes last: after it there is no /proc.
        Privileged("chroot", "chroot", (put(b".\0"),), (CHROOT,)),
    ]


def kept_by(who: str) -> list[str]:
    """Returns the capabilities that a case keeps: none, one, all but one, or all that this process is permitted."""
    if who in ("none", "all"):
        return [] if who == "none" else namespaces.permitted()
    name = who.removeprefix("all-but-")
    return [name] if name == who else [other for other in namespaces.permitted() if other != name]


EACH = (ADMIN, PORTS, RAW, CHROOT)


def under_test(who: str) -> Sequence[str]:
    """Returns the capabilities that a case needs: all of them, or the one that it keeps or drops."""
    return {"none": (), "all": EACH}.get(who, (who.removeprefix("all-but-"),))


@behaviour("entry.capability.refused", SOURCE)
@pytest.mark.parametrize("who", ["none", "all", *EACH, *(f"all-but-{name}" for name in EACH)])
def test_refused(who, privileged, entry, enter, expect, caller):
    """A call that needs a capability fails without it, whatever others the caller has, and succeeds with it alone."""
    require_capabilities(under_test(who))
    kept = kept_by(who)
    caller.keep_capabilities(kept)
    for call in judged_over(entry.route, privileged):
        value = lowest()[0] if call.name == "socket" else 0
        expect(call.returns(kept, value), call=call.name, what=call.what).of(enter(call.name, *call.words))


@behaviour("entry.capability.nothing-done", SOURCE)
def test_nothing_done(privileged, entry, enter, keep, expect, caller):
    """A call that fails for want of a capability makes no descriptor and changes no option, name, flag or root."""
    caller.keep_capabilities(())
    (fd,) = (call.words[0] for call in privileged if call.name == "bind")
    sock = keep(socket.socket(fileno=caller.lend(fd)))
    for call in judged_over(entry.route, privileged):
        before = state(sock)
        check = expect([call.error, before], call=call.name, what=call.what)
        result = enter(call.name, *call.words)
        check.of([result, state(sock)], result)


def state(sock: socket.socket) -> list[object]:
    """Returns what the calls of `privileged` would change."""
    options = [sock.getsockopt(*option) for option in ((1, SO_MARK), (1, SO_PRIORITY), (0, IP_TRANSPARENT))]
    flags = fcntl.ioctl(sock, SIOCGIFFLAGS, struct.pack("16s16x", b"lo"))
    return [lowest()[0], *options, sock.getsockname(), flags, str(Path("/proc/self/root").readlink())]


#: Options that need CAP_NET_ADMIN in the initial user namespace, by name: the number, and the error without it.
INITIAL = {"SO_SNDBUFFORCE": (32, -EPERM), "SO_RCVBUFFORCE": (33, -EPERM), "SO_DEBUG": (1, -EACCES)}


@behaviour("entry.capability.other-namespace", SOURCE_FIRST)
def test_other_namespace(entry, enter, memory, keep, expect, request, caller):
    """Options and nice values that need a capability in the initial user namespace fail for a caller that has every
    capability in another one.
    """
    if request.config.getoption("isolation") != "full":
        not_applicable("a user namespace of the sandbox's own")
    fd = caller.adopt(keep(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)).fileno())
    for what, (option, error) in INITIAL.items():
        expect(error, what=what).of(enter("setsockopt", fd, socket.SOL_SOCKET, option, memory.words(1), 4))
    if entry.route == "direct":
        expect(-EPERM, what="nice").of(enter("nice", -5))


@behaviour("entry.capability.initial-namespace", SOURCE_FIRST)
@pytest.mark.sandbox(initial_user_ns=True)
@pytest.mark.parametrize("who", ["none", ADMIN, NICE])
def test_initial_namespace(who, entry, enter, memory, keep, expect, caller):
    """Options and nice values that need a capability in the initial user namespace succeed with it and fail without."""
    # The initial one maps every id to itself (user_namespaces(7)).
    if Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"]:
        not_applicable("the initial user namespace")
    kept = kept_by(who)
    caller.keep_capabilities(kept)
    fd = caller.adopt(keep(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)).fileno())
    for what, (option, error) in INITIAL.items():
        expect(0 if ADMIN in kept else error, what=what).of(
            enter("setsockopt", fd, socket.SOL_SOCKET, option, memory.words(1), 4)
        )
    if entry.route == "direct":
        before = os.getpriority(os.PRIO_PROCESS, caller.process)
        returned = expect(0 if NICE in kept else -EPERM, what="nice")
        change = expect(-5 if NICE in kept else 0, what="nice", afterwards="change")
        result = enter("nice", -5)
        returned.of(result)
        change.of(os.getpriority(os.PRIO_PROCESS, caller.process) - before, result)
