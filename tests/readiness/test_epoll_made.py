"""epoll_create(2) and epoll_create1: the descriptors that they make, and which files can be watched by them."""

import os
from errno import EBADF, EINVAL, EMFILE, EPERM
from fcntl import F_GETFD, FD_CLOEXEC
from select import POLLIN

import pytest

from probes.testing import behaviour, need, procfs
from probes.testing.limits import DescriptorLimit
from probes.testing.readiness import ADD
from probes.testing.socket_kinds import TCP
from tests.listen.other_files import SPECIAL, OtherFiles

pytestmark = pytest.mark.routes("direct")

SOURCE = "epoll_create(2)"
#: arch/x86/entry/syscalls/syscall_32.tbl.
EPOLL_CREATE = 254
SIZES = {"zero": 0, "minus-1": -1, "least": -(1 << 31)}
#: What epoll_ctl returns for the files of OtherFiles that can be opened, but not polled; 0 for the others.
CANNOT_POLL = ("file", "directory", "dev-zero", "proc-file", "memfd", "memfd-secret", "fsopen")


@behaviour("readiness.epoll.created", f"{SOURCE} RETURN VALUE, EINVAL, EMFILE, EPOLL_CLOEXEC; do_epoll_create")
def test_created(the_gate, calls, expect):
    """epoll_create and epoll_create1 return the lowest free descriptor. Any positive size makes one, with another
    epoll_create fails with EINVAL; epoll_create1 takes no flag but EPOLL_CLOEXEC, which sets FD_CLOEXEC. Without a free
    descriptor both fail with EMFILE.
    """
    (free,) = procfs.lowest()
    for case, size in {"one": 1, "most": (1 << 31) - 1}.items():
        check = expect(free, call="epoll_create", size=case)
        made = the_gate.enter(EPOLL_CREATE, size)
        check.of(made)
        need(calls.close(need(made)))
    for case, size in SIZES.items():
        expect(-EINVAL, call="epoll_create", size=case).of(the_gate.enter(EPOLL_CREATE, size))
    for case, flags, set_flag in (("none", 0, 0), ("cloexec", os.O_CLOEXEC, FD_CLOEXEC)):
        check = expect([free, set_flag], call="epoll_create1", flags=case)
        made = calls.syscall("epoll_create1", flags)
        check.of([int(made), int(calls.syscall("fcntl", made, F_GETFD, 0))], made)
        need(calls.close(need(made)))
    others = [1 << bit for bit in range(32) if 1 << bit != os.O_CLOEXEC]
    check = expect([-EINVAL] * len(others), call="epoll_create1", flags="others")
    results = [calls.syscall("epoll_create1", flag) for flag in others]
    check.of([int(result) for result in results], *results)
    limit = DescriptorLimit(calls)
    limit.leave(0)
    expect(-EMFILE, call="epoll_create", limit="reached").of(the_gate.enter(EPOLL_CREATE, 1))
    expect(-EMFILE, call="epoll_create1", limit="reached").of(calls.syscall("epoll_create1", 0))
    limit.restore()


def added(error, name):
    """Returns what epoll_ctl returns for a file: EBADF where it is none for other calls either."""
    return -EBADF if error == EBADF else -EPERM if name in CANNOT_POLL else 0


@behaviour("readiness.control.usual-file", "epoll_ctl(2) EBADF, EPERM; do_epoll_ctl, file_can_poll")
def test_usual(readiness, prepare, calls, expect):
    """A pipe, a FIFO and a socket can be added to an interest list; a file and a directory not: EPERM. What is no open
    descriptor, or was opened with O_PATH, fails with EBADF.
    """
    end, epoll = prepare("bound", TCP), readiness.epoll()
    for name, (fd, error) in OtherFiles(calls).usual(end.fd).items():
        expect(added(error, name), descriptor=name).of(readiness.control(epoll, ADD, fd, POLLIN))
    expect(0, descriptor="socket").of(readiness.control(epoll, ADD, end, POLLIN))


@behaviour("readiness.control.special-file", "epoll_ctl(2) EBADF, EPERM; do_epoll_ctl, file_can_poll; open_tree(2)")
@pytest.mark.parametrize("name", SPECIAL)
def test_special(name, readiness, calls, expect):
    """Every descriptor whose file can be polled can be added to an interest list, another one not: EPERM; one of open_tree
    fails with EBADF.
    """
    epoll = readiness.epoll()
    fd, error = OtherFiles(calls).special(name)
    expect(added(error, name)).of(readiness.control(epoll, ADD, fd, POLLIN))
