"""epoll_ctl(2): the interest list, its errors, and when an entry leaves it."""

import struct
from errno import EBADF, EEXIST, EFAULT, EINVAL, ELOOP, ENOENT, EPERM
from select import EPOLLEXCLUSIVE, POLLERR, POLLHUP, POLLIN, POLLOUT, POLLPRI

import pytest

from probes.testing import VersionDifference, behaviour, need
from probes.testing.readiness import ADD, DELETE, EPOLLET, MODIFY, POLLRDHUP
from probes.testing.socket_kinds import TCP, UNIX_STREAM

pytestmark = pytest.mark.routes("direct")

SOURCE = "epoll_ctl(2)"
OPERATIONS = {"add": ADD, "modify": MODIFY, "delete": DELETE}
EPOLLWAKEUP = 1 << 29
EVENT = struct.Struct("<IQ")
#: open and memfd_create of the i386 table.
OPEN, MEMFD = 5, 356


@behaviour(
    "readiness.control.list", f"{SOURCE} EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL, EEXIST, ENOENT; do_epoll_ctl"
)
def test_list(readiness, prepare, expect):
    """A descriptor is added to an interest list once: again it fails with EEXIST. To modify or delete one that is not there
    fails with ENOENT. What epoll_wait reports is what was set last, with its 64 bits of data.
    """
    end = prepare("with-data", UNIX_STREAM)
    epoll, other = readiness.epoll(), readiness.epoll()
    large = 0xFEDCBA9876543210
    for op in ("modify", "delete"):
        expect(-ENOENT, op=op, step="empty").of(readiness.control(epoll, OPERATIONS[op], end, POLLIN))
    expect(0, op="add", step="first").of(readiness.control(epoll, ADD, end, POLLIN, large))
    expect(-EEXIST, op="add", step="again").of(readiness.control(epoll, ADD, end, POLLOUT, 1))
    expect([1, [POLLIN, large]], step="added").of(readiness.wait(epoll))
    expect(0, op="modify", step="there").of(readiness.control(epoll, MODIFY, end, POLLOUT, 2))
    expect([1, [POLLOUT, 2]], step="modified").of(readiness.wait(epoll))
    expect(0, op="add", step="another-list").of(readiness.control(other, ADD, end, POLLIN, 3))
    expect(0, op="delete", step="there").of(readiness.control(epoll, DELETE, end))
    expect([0], step="deleted").of(readiness.wait(epoll))
    expect([1, [POLLIN, 3]], step="another-list").of(readiness.wait(other))
    expect(-ENOENT, op="delete", step="again").of(readiness.control(epoll, DELETE, end))
    expect(0, op="add", step="after-delete").of(readiness.control(epoll, ADD, end, POLLIN))


@behaviour("readiness.control.descriptor", f"{SOURCE} EBADF, EINVAL, EPERM; do_epoll_ctl, file_can_poll")
def test_descriptor(readiness, prepare, calls, the_gate, expect):
    """epoll_ctl fails with EBADF if either descriptor is none, EPERM for a file without poll, EINVAL for epfd that is no
    epoll or is fd itself, and for an unknown operation; in this order.
    """
    end, epoll = prepare("connected", UNIX_STREAM), readiness.epoll()
    quiet = the_gate.quieted()
    directory = need(quiet.enter(OPEN, calls.pointer(b"/\0"), 0), "open")
    memory_file = need(quiet.enter(MEMFD, calls.pointer(b"x\0"), 0), "memfd_create")
    for op, number in OPERATIONS.items():
        expect(-EBADF, op=op, epfd="none").of(readiness.control(-1, number, end, POLLIN))
        expect(-EBADF, op=op, fd="none").of(readiness.control(epoll, number, -1, POLLIN))
        expect(-EBADF, op=op, epfd="socket", fd="none").of(readiness.control(end.fd, number, -1, POLLIN))
        expect(-EPERM, op=op, fd="directory").of(readiness.control(epoll, number, directory, POLLIN))
        expect(-EPERM, op=op, fd="memfd").of(readiness.control(epoll, number, memory_file, POLLIN))
        expect(-EPERM, op=op, epfd="socket", fd="memfd").of(readiness.control(end.fd, number, memory_file, POLLIN))
        expect(-EINVAL, op=op, epfd="socket").of(readiness.control(end.fd, number, end.peer, POLLIN))
        expect(-EINVAL, op=op, fd="epfd").of(readiness.control(epoll, number, epoll, POLLIN))
    for op in (0, 4, 5, -1, 0x10001):
        expect(-EINVAL, op=f"{op:#x}").of(readiness.control(epoll, op, end, POLLIN))


@behaviour("readiness.control.event", f"{SOURCE} EFAULT, BUGS; ep_op_has_event; struct epoll_event, EPOLL_PACKED")
def test_event(readiness, prepare, calls, memory, expect):
    """The event has 12 bytes: memory that ends there is enough, one byte less fails with EFAULT, before the descriptor is
    looked at. EPOLL_CTL_DEL does not read it; it may be NULL.
    """
    end, epoll = prepare("with-data", UNIX_STREAM), readiness.epoll()
    whole = EVENT.pack(POLLIN, 1)
    for op in ("add", "modify"):
        less = memory.guarded(whole[:-1])
        expect(-EFAULT, op=op, memory="one-byte-less").of(calls.syscall("epoll_ctl", epoll, OPERATIONS[op], end, less))
        expect(-EFAULT, op=op, memory="null").of(calls.syscall("epoll_ctl", epoll, OPERATIONS[op], -1, 0))
        enough = memory.guarded(whole)
        expect(0, op=op, memory="enough").of(calls.syscall("epoll_ctl", epoll, OPERATIONS[op], end, enough))
    expect(0, op="delete", memory="null").of(calls.syscall("epoll_ctl", epoll, DELETE, end, 0))
    need(readiness.control(epoll, ADD, end, POLLIN))
    expect(0, op="delete", memory="no-access").of(calls.syscall("epoll_ctl", epoll, DELETE, end, memory.unmapped()))


@behaviour("readiness.control.exclusive", f"{SOURCE} EPOLLEXCLUSIVE, EINVAL; do_epoll_ctl EPOLLEXCLUSIVE_OK_BITS")
def test_exclusive(readiness, prepare, expect):
    """EPOLLEXCLUSIVE goes with EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP, EPOLLWAKEUP and EPOLLET, not with another bit, not
    with EPOLL_CTL_MOD, and not for an epoll: EINVAL. An entry that has it cannot be modified. It reports events.
    """
    end, epoll = prepare("with-data", UNIX_STREAM), readiness.epoll()
    good = {POLLIN, POLLOUT, POLLERR, POLLHUP, EPOLLWAKEUP, EPOLLET}
    for bit in (1 << at for at in range(32)):
        if bit == EPOLLEXCLUSIVE:
            continue
        fine = bit in good
        result = readiness.control
        expect(0 if fine else -EINVAL, with_bit=f"{bit:#x}").of(result(epoll, ADD, end, EPOLLEXCLUSIVE | bit))
        if fine:
            need(readiness.control(epoll, DELETE, end))
    expect(-EINVAL, op="add", fd="epoll").of(readiness.control(epoll, ADD, readiness.epoll(), EPOLLEXCLUSIVE | POLLIN))
    need(readiness.control(epoll, ADD, end, POLLIN))
    expect(-EINVAL, op="modify").of(readiness.control(epoll, MODIFY, end, EPOLLEXCLUSIVE | POLLIN))
    need(readiness.control(epoll, DELETE, end))
    need(readiness.control(epoll, ADD, end, EPOLLEXCLUSIVE | POLLIN, 5))
    expect(-EINVAL, op="modify", entry="exclusive").of(readiness.control(epoll, MODIFY, end, POLLIN))
    expect([1, [POLLIN, 5]], entry="exclusive").of(readiness.wait(epoll))


@behaviour("readiness.control.wakeup", f"{SOURCE} EPOLLWAKEUP, BUGS; ep_take_care_of_epollwakeup; capabilities(7)")
def test_wakeup(readiness, prepare, unprivileged, expect):
    """Without CAP_BLOCK_SUSPEND, EPOLLWAKEUP is ignored: the entry is added and modified, and reports its events."""
    end, epoll = prepare("with-data", UNIX_STREAM), readiness.epoll()
    for op, number in (("add", ADD), ("modify", MODIFY)):
        expect(0, op=op).of(readiness.control(epoll, number, end, EPOLLWAKEUP | POLLIN, number))
        expect([1, [POLLIN, number]], op=op, call="epoll_wait").of(readiness.wait(epoll))


@behaviour("readiness.control.nested", f"{SOURCE} ELOOP; epoll(7) Q4; ep_loop_check, EP_MAX_NESTS, ep_eventpoll_poll")
def test_nested(readiness, prepare, expect):
    """An epoll can be watched, and is readable while a descriptor of its list is ready. A circle of epolls fails with ELOOP,
    as does a chain of more than five.
    """
    end = prepare("with-data", UNIX_STREAM)
    chain = [readiness.watching(end, POLLIN)]
    # Before, a chain was found too long by reverse_path_check, which counts the paths from the descriptor up.
    refused = VersionDifference(
        "6.17, 6.1.148", before=-EINVAL, after=-ELOOP, cite="f2e467a48287 eventpoll: Fix semi-unbounded recursion"
    )
    for depth in range(1, 6):
        chain.append(readiness.epoll())
        result = 0 if depth < 5 else refused
        expect(result, chain=depth + 1).of(readiness.control(chain[-1], ADD, chain[-2], POLLIN, depth))
    expect([1, [POLLIN, 4]], of="epoll", call="epoll_wait").of(readiness.wait(chain[4]))
    expect([1, POLLIN], of="epoll", call="poll").of(readiness.poll(chain[4], POLLIN | POLLOUT | POLLPRI | POLLRDHUP))
    expect(-ELOOP, circle=2).of(readiness.control(chain[0], ADD, chain[1], POLLIN))
    expect(-ELOOP, circle=5).of(readiness.control(chain[0], ADD, chain[4], POLLIN))
    need(end.calls.make("recv", end.fd, end.calls.memory.alloc(4), 4, 0))
    expect([0], of="epoll", call="epoll_wait", data="read").of(readiness.wait(chain[4]))
    expect([0, 0], of="epoll", call="poll", data="read").of(readiness.poll(chain[4], POLLIN))


@behaviour("readiness.control.closed", "epoll(7) Q6; epoll_ctl(2); close(2); eventpoll_release_file, ep_remove")
@pytest.mark.parametrize("kind", [TCP, UNIX_STREAM], ids=str)
def test_closed(kind, readiness, prepare, calls, expect):
    """close of a descriptor removes its entry, unless another descriptor has the same open file: then the events are
    reported on, and the entry cannot be deleted by the number that was closed.
    """
    end, epoll = prepare("with-data", kind), readiness.epoll()
    need(readiness.control(epoll, ADD, end, POLLIN, 1))
    duplicate = need(calls.syscall("dup", end.fd))
    expect(0, fd="duplicate", op="add").of(readiness.control(epoll, ADD, duplicate, POLLIN, 2))
    expect([2, [POLLIN, 1], [POLLIN, 2]], closed="none").of(readiness.wait(epoll))
    need(calls.close(end.fd))
    expect([2, [POLLIN, 1], [POLLIN, 2]], closed="one").of(readiness.wait(epoll))
    expect(-EBADF, closed="one", op="delete").of(readiness.control(epoll, DELETE, end))
    need(calls.close(duplicate))
    expect([0], closed="both").of(readiness.wait(epoll))
