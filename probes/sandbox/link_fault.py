"""Make the loopback link of a sandbox wrong on purpose: drop, double or change its frames, by a BPF program at its egress.

    with LinkFault([Byte(23, 6)], DROP) as fault:          # no TCP over IPv4
        sandbox.run(body, SandboxSpec(link_fault=fault), …)

The program is loaded by the sandbox's maker, which has the right to, and attached by the sandbox to its own link, so no
frame of another network namespace meets it. The frames that `wire` records are those that have left it.

Sources: bpf(2), bpf-helpers(7), tc-bpf(8), include/uapi/linux/bpf.h, net/core/filter.c.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

_BPF = {"x86_64": 321, "i686": 357}
_MAP_CREATE, _MAP_LOOKUP, _PROG_LOAD = 0, 1, 5
_ARRAY, _SCHED_CLS = 2, 3
#: Helpers, by their numbers.
_LOOKUP, _STORE_BYTES, _L3_CSUM_REPLACE, _CLONE_REDIRECT, _LOAD_BYTES = 1, 9, 10, 13, 26
#: Offsets in struct __sk_buff.
_MARK, _IFINDEX = 8, 40
_OK, _SHOT = 0, 2
#: Mark of a frame that was sent by the program itself.
_OWN = 0x50BB1E
#: Offset of the checksum of an IPv4 header, behind the 14 bytes of Ethernet.
_IP_CHECKSUM = 24
_LOOPBACK = 1
#: Handle of the egress side of a clsact qdisc.
_EGRESS = 0xFFFFFFF3

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Byte:
    """Names a byte of a frame, from its Ethernet header on, and what it must be under a mask."""

    offset: int
    value: int
    mask: int = 0xFF


@dataclass(frozen=True)
class Change:
    """Inverts bits of a byte of a frame. `ipv4`: the byte is one of an IPv4 header, whose checksum follows."""

    offset: int
    mask: int
    ipv4: bool = False


DROP, DOUBLE = "drop", "double"


@dataclass
class LinkFault:
    """Is what a link does wrong with the frames that match, while the context is entered."""

    matching: Sequence[Byte]
    action: str | Change
    #: The descriptor of the loaded program.
    program: int = field(default=-1, init=False)
    _counter: int = field(default=-1, init=False)

    def fits(self, frame: bytes) -> bool:
        """Return True if a frame matches."""
        return all(
            byte.offset < len(frame) and frame[byte.offset] & byte.mask == byte.value & byte.mask
            for byte in self.matching
        )

    def __enter__(self) -> LinkFault:
        """Load the program. Raises OSError: EPERM without CAP_BPF and CAP_NET_ADMIN in the initial user namespace."""
        self._counter = _bpf(_MAP_CREATE, struct.pack("<IIII", _ARRAY, 4, 8, 1))
        code = _code(self, self._counter)
        held, license = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(b"GPL")
        at = ctypes.addressof(held), ctypes.addressof(license)
        try:
            self.program = _bpf(_PROG_LOAD, struct.pack("<IIQQ", _SCHED_CLS, len(code) // 8, *at))
        except OSError:
            os.close(self._counter)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Unload it."""
        os.close(self.program)
        os.close(self._counter)

    def attach(self) -> None:
        """Attach the program to the loopback link of this process's network namespace, and close it here. Raises OSError."""
        from pyroute2 import IPRoute

        with IPRoute() as route:
            route.tc("add", "clsact", _LOOPBACK)
            route.tc(
                "add-filter", "bpf", _LOOPBACK, ":1", fd=self.program, name="link fault", parent=_EGRESS, classid=1,
                direct_action=True,
            )  # fmt: skip
        os.close(self.program)

    def count(self) -> int:
        """Return how many frames were wrong."""
        key, value = ctypes.c_uint32(0), ctypes.c_uint64(0)
        at = ctypes.addressof(key), ctypes.addressof(value)
        _bpf(_MAP_LOOKUP, struct.pack("<IIQQ", self._counter, 0, *at))
        return value.value


class _Program:
    """Collects instructions of BPF; a jump that leaves goes to the end, where the frame passes as it is."""

    def __init__(self) -> None:
        self._slots: list[bytes] = []
        self._leaving: list[int] = []

    def op(self, code: int, to: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> None:
        self._slots.append(struct.pack("<BBhi", code, source << 4 | to, offset, value))

    def move(self, to: int, value: int) -> None:
        self.op(0xB7, to, value=value)

    def copy(self, to: int, source: int) -> None:
        self.op(0xBF, to, source)

    def stack(self, to: int, offset: int) -> None:
        """Put the address of a place on the stack into a register."""
        self.copy(to, _STACK)
        self.op(0x07, to, value=offset)

    def call(self, helper: int) -> None:
        self.op(0x85, value=helper)

    def leave_if(self, code: int, value: int) -> None:
        """Leave where r0 compares with a value: 0x15 equal, 0x55 not equal."""
        self._leaving.append(len(self._slots))
        self.op(code, 0, value=value)

    def answer(self, verdict: int) -> None:
        self.move(0, verdict)
        self.op(0x95)

    def done(self) -> bytes:
        """Return the program, with its end."""
        end = len(self._slots)
        self.answer(_OK)
        for at in self._leaving:
            jump = self._slots[at]
            self._slots[at] = jump[:2] + struct.pack("<h", end - at - 1) + jump[4:]
        return b"".join(self._slots)


_EQUAL, _UNEQUAL = 0x15, 0x55
_FRAME, _STACK = 6, 10
#: Places on the stack: the map's key, bytes of the frame.
_KEY, _BYTES = -4, -8


def _load(program: _Program, offset: int, size: int) -> None:
    """Copy bytes of the frame to _BYTES, or leave if it is shorter."""
    program.copy(1, _FRAME)
    program.move(2, offset)
    program.stack(3, _BYTES)
    program.move(4, size)
    program.call(_LOAD_BYTES)
    program.leave_if(_UNEQUAL, 0)


def _code(fault: LinkFault, counter: int) -> bytes:
    """Return the program of a fault: leave what does not match, count, act."""
    program = _Program()
    program.copy(_FRAME, 1)
    program.op(0x61, 0, _FRAME, _MARK)
    program.leave_if(_EQUAL, _OWN)
    for byte in fault.matching:
        _load(program, byte.offset, 1)
        program.op(0x71, 0, _STACK, _BYTES)
        program.op(0x57, 0, value=byte.mask)
        program.leave_if(_UNEQUAL, byte.value)
    program.op(0x62, _STACK, offset=_KEY, value=0)
    program.stack(2, _KEY)
    # Two slots: the low and the high half of the map's address, which the kernel puts there for its descriptor.
    program.op(0x18, 1, 1, value=counter)
    program.op(0)
    program.call(_LOOKUP)
    program.leave_if(_EQUAL, 0)
    program.move(1, 1)
    program.op(0xDB, 0, 1)
    if isinstance(fault.action, Change):
        _change(program, fault.action)
    elif fault.action == DOUBLE:
        _double(program)
    else:
        program.answer(_SHOT)
    return program.done()


def _double(program: _Program) -> None:
    """Send a copy, marked as our own so that it passes."""
    program.move(0, _OWN)
    program.op(0x63, _FRAME, 0, _MARK)
    program.copy(1, _FRAME)
    program.op(0x61, 2, _FRAME, _IFINDEX)
    program.move(3, 0)
    program.call(_CLONE_REDIRECT)
    program.move(0, 0)
    program.op(0x63, _FRAME, 0, _MARK)


def _change(program: _Program, change: Change) -> None:
    """Invert bits in the 16-bit word of a byte, and follow it in the checksum where that covers it."""
    even = change.offset & ~1
    _load(program, even, 2)
    program.op(0x69, 7, _STACK, _BYTES)
    program.copy(8, 7)
    # The word was loaded in the order of memory: its first byte is the low one.
    program.op(0xA7, 8, value=change.mask << 8 * (change.offset - even))
    program.op(0x6B, _STACK, 8, _BYTES)
    program.copy(1, _FRAME)
    program.move(2, even)
    program.stack(3, _BYTES)
    program.move(4, 2)
    program.move(5, 0)
    program.call(_STORE_BYTES)
    program.leave_if(_UNEQUAL, 0)
    if change.ipv4:
        program.copy(1, _FRAME)
        program.move(2, _IP_CHECKSUM)
        program.copy(3, 7)
        program.copy(4, 8)
        program.move(5, 2)
        program.call(_L3_CSUM_REPLACE)


def _bpf(command: int, attributes: bytes) -> int:
    """Call bpf(2) and return its result. Raises OSError."""
    held = ctypes.create_string_buffer(attributes.ljust(128, b"\0"), 128)
    result: int = _libc.syscall(_BPF[platform.machine()], command, held, len(held))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"bpf command {command}: {os.strerror(number)}")
    return result
