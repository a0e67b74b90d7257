"""accept with a room for the peer's address, or a length of it, that the kernel cannot write."""

import struct
from collections.abc import Mapping
from errno import EAGAIN, EFAULT, EINVAL
from socket import SOCK_NONBLOCK

import pytest

from probes.entry.calls import Calls
from probes.entry.memory import PROT_READ, Block, Memory
from probes.testing import behaviour, need, procfs
from probes.testing.prepared import Prepared
from probes.testing.socket_kinds import TCP, TCP6, UNIX_STREAM

#: Bytes of room for an address, as many as each of the addresses of these tests has or more.
ROOM = 28


def rooms(memory: Memory) -> Mapping[str, tuple[Block | int, Block | int, int]]:
    """Returns addresses and lengths for accept, with the error that each makes."""
    room = memory.words(ROOM)
    read_only = memory.guarded(struct.pack("<i", ROOM), PROT_READ)
    return {
        "address-unmapped": (memory.unmapped(), room, EFAULT),
        "address-partly": (memory.guarded(3), room, EFAULT),
        "address-read-only": (memory.guarded(ROOM, PROT_READ), room, EFAULT),
        "length-unmapped": (memory.alloc(ROOM), memory.unmapped(), EFAULT),
        "length-null": (memory.alloc(ROOM), 0, EFAULT),
        "length-partly": (memory.alloc(ROOM), memory.guarded(3), EFAULT),
        "length-read-only": (memory.alloc(ROOM), read_only, EFAULT),
        "length-negative": (memory.alloc(ROOM), memory.words(-1), EINVAL),
        "length-least": (memory.alloc(ROOM), memory.words(-(1 << 31)), EINVAL),
    }


@behaviour(
    "listen.accept.address-fault",
    "accept(2) EFAULT; do_accept `move_addr_to_user`, `goto out_fd` after ops->accept; move_addr_to_user",
)
@pytest.mark.parametrize("kind", [TCP, TCP6, UNIX_STREAM], ids=str)
@pytest.mark.parametrize("call", ["accept", "accept4"])
def test_address_fault(call, kind, prepare, calls, memory, expect):
    """accept and accept4 fail with EFAULT if the peer's address or its length cannot be written, and with EINVAL, without
    writing an address, if the length is negative. The connection was accepted before: it is closed, so the queue is empty,
    the peer reads its end, and no descriptor is left.
    """
    flags = [0] if call == "accept4" else []
    for case, (address, length, error) in rooms(memory).items():
        end = prepare("pending", kind, flags=SOCK_NONBLOCK)
        before = procfs.descriptors()
        # With a length that is refused nothing is written to the address.
        unwritten = error == EINVAL
        refused = expect([-error, b""] if unwritten else -error, room=case)
        after = expect([-EAGAIN, 0], room=case, afterwards="queue")
        free = expect([], room=case, afterwards="descriptors")
        result = calls.make(call, end, address, length, *flags)
        refused.of([result, address.written(0)] if unwritten else result, result)
        left = [fd for fd in procfs.descriptors() if fd not in before]
        free.of(left, result)
        again = calls.make(call, end, 0, 0, *flags)
        # What was accepted all the same has no end to wait for.
        kept = [*left, *([again] if again >= 0 else [])]
        closed = [] if kept else [end_of_connection(end, calls)]
        after.of([again, *closed], again)
        for fd in kept:
            need(calls.close(fd))
        end.close()


def end_of_connection(end: Prepared, calls: Calls) -> int:
    """Returns what the peer reads when its connection has ended."""
    end.wait(end.peer)
    return calls.make("recv", end.peer, calls.memory.alloc(4), 4, 0)
