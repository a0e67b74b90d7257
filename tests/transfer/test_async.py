"""Signals when a socket can be read: FIOASYNC, O_ASYNC, and the owner that gets them."""

import fcntl
import signal
import socket
from errno import EINVAL, ESRCH
from os import O_ASYNC, O_RDWR

import pytest

from probes.testing import behaviour, need
from probes.testing.socket_kinds import TCP, UDP, UNIX_DGRAM, UNIX_STREAM
from tests.transfer.signals import BlockedSignals

pytestmark = pytest.mark.routes("direct")

#: include/uapi/asm-generic/ioctls.h, sockios.h, fcntl.h.
FIOASYNC, FIOSETOWN, SIOCSPGRP, FIOGETOWN, SIOCGPGRP = 0x5452, 0x8901, 0x8902, 0x8903, 0x8904
F_SETOWN, F_GETOWN, F_SETSIG = 8, 9, 10
SOURCE = "socket(7) FIOASYNC, O_ASYNC, SIOCSPGRP, FIOSETOWN; fcntl(2) F_SETOWN, F_SETSIG"
KERNEL = "sock_fasync, sk_wake_async, send_sigio"
#: arch/x86/entry/syscalls/syscall_32.tbl. No behaviour is about these calls.
_SETPGID, _GETPGRP = 57, 65
#: No process has this id: it is above every pid_max.
NOT_THERE = 0x3FFFFFFF


@behaviour("transfer.async.signal", f"{SOURCE}; {KERNEL}")
def test_signal(prepare, calls, memory, caller, expect):
    """A socket with O_ASYNC, set by FIOASYNC or F_SETFL, sends its owner SIGIO when data comes, or the signal of F_SETSIG;
    without O_ASYNC, or without an owner, it sends none.
    """
    for kind in (TCP, UDP, UNIX_STREAM, UNIX_DGRAM):
        pending = BlockedSignals(calls, [signal.SIGIO, signal.SIGUSR2])
        owner, on, off = memory.words(caller.pid), memory.words(1), memory.words(0)
        end = prepare("connected", kind)
        need(calls.syscall("ioctl", end.fd, FIOASYNC, on), "FIOASYNC")
        steps = {
            "no-owner": (("ioctl", FIOASYNC, on), 0), "owner": (("ioctl", FIOSETOWN, owner), signal.SIGIO),
            "not-async": (("ioctl", FIOASYNC, off), 0), "by-f-setfl": (("fcntl64", fcntl.F_SETFL, O_ASYNC), signal.SIGIO),
            "other-signal": (("fcntl64", F_SETSIG, signal.SIGUSR2), signal.SIGUSR2),
        }  # fmt: skip
        for step, ((name, *words), number) in steps.items():
            check = expect([0, int(number)], kind=kind, step=step)
            result = calls.syscall(name, end.fd, *words)
            end.send(end.peer, b"data")
            end.wait(end.fd)
            check.of([int(result), pending.awaited() if number else pending.taken()], result)
            need(end.calls.make("recv", end.fd, memory.alloc(8), 8, 0), "recv", returns=4)
        flags = expect(O_RDWR | O_ASYNC, kind=kind, step="flags")
        flags.of(calls.syscall("fcntl64", end.fd, fcntl.F_GETFL, 0))


@behaviour("transfer.async.owner", f"{SOURCE}; socket(7) SIOCGPGRP, FIOGETOWN; f_setown, sock_ioctl")
def test_owner(new_socket, calls, memory, caller, expect):
    """FIOSETOWN, SIOCSPGRP and F_SETOWN set the owner, which FIOGETOWN, SIOCGPGRP and F_GETOWN return; 0 is none, and
    ESRCH is the answer to one that does not exist.
    """
    sock = new_socket(socket.AF_UNIX, socket.SOCK_STREAM)
    setters = {"fiosetown": FIOSETOWN, "siocspgrp": SIOCSPGRP, "f-setown": None}
    for setter, request in setters.items():
        for case, given, result in (
            ("itself", caller.pid, 0), ("none", 0, 0), ("not-there", NOT_THERE, -ESRCH), ("itself-again", caller.pid, 0),
        ):  # fmt: skip
            words = (
                ("fcntl64", sock, F_SETOWN, given) if request is None else ("ioctl", sock, request, memory.words(given))
            )
            expect(result, setter=setter, owner=case).of(calls.syscall(*words))
            owner = 0 if given == 0 else caller.pid
            if result:
                owner = 0
            for getter, number in (("fiogetown", FIOGETOWN), ("siocgpgrp", SIOCGPGRP)):
                block = memory.words(-1)
                check = expect([0, True], setter=setter, owner=case, getter=getter)
                found = calls.syscall("ioctl", sock, number, block)
                check.of([int(found), block.words()[0] == owner], found)
            check = expect(True, setter=setter, owner=case, getter="f-getown")
            found = calls.syscall("fcntl64", sock, F_GETOWN, 0)
            check.of(int(found) == owner, found)


@behaviour("transfer.async.group", f"{SOURCE}; fcntl(2) F_GETOWN; f_setown `PIDTYPE_PGID`, f_getown, send_sigio")
def test_group(prepare, calls, memory, expect):
    """A negative owner is a process group: FIOGETOWN, SIOCGPGRP and F_GETOWN return it negated, and its members get SIGIO.
    ESRCH is the answer to a group that does not exist, EINVAL to the least number, and both change nothing.
    """
    gate = calls.gate.quieted()
    # The caller becomes the one member of a group, unless it leads a session: EPERM.
    gate.enter(_SETPGID, 0, 0)
    group = need(gate.enter(_GETPGRP), "getpgrp")
    pending = BlockedSignals(calls, [signal.SIGIO])
    setters = {"fiosetown": FIOSETOWN, "siocspgrp": SIOCSPGRP, "f-setown": None}
    for setter, request in setters.items():
        end = prepare("connected", UDP)
        for case, given, result in (
            ("own", -group, 0), ("not-there", -NOT_THERE, -ESRCH), ("least", -(1 << 31), -EINVAL), ("own-again", -group, 0),
        ):  # fmt: skip
            words = (
                ("fcntl64", end.fd, F_SETOWN, given)
                if request is None
                else ("ioctl", end.fd, request, memory.words(given))
            )
            expect(result, setter=setter, owner=case).of(calls.syscall(*words))
            for getter, number in (("fiogetown", FIOGETOWN), ("siocgpgrp", SIOCGPGRP), ("f-getown", None)):
                block = memory.words(-1)
                check = expect("the group", setter=setter, owner=case, getter=getter)
                if number is None:
                    found = calls.syscall("fcntl64", end.fd, F_GETOWN, 0)
                    owner = int(found)
                else:
                    found = calls.syscall("ioctl", end.fd, number, block)
                    owner = int.from_bytes(block.read(), "little", signed=True) if not found else int(found)
                check.of("the group" if owner == -group else owner, found)
        check = expect([0, int(signal.SIGIO)], setter=setter, step="signal")
        asynchronous = calls.syscall("fcntl64", end.fd, fcntl.F_SETFL, O_ASYNC)
        end.send(end.peer, b"data")
        end.wait(end.fd)
        check.of([int(asynchronous), pending.awaited()], asynchronous)
        end.close()
