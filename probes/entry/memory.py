"""Memory that a call may point to: below 4 GiB, poisoned, and hard against pages that fault.

An `int $0x80` passes 32 bits of each register, so everything lies below 4 GiB whatever the size of Python's pointers.
Only these objects reach that memory, so that a gate may also live in another process.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import threading
from dataclasses import dataclass
from typing import SupportsInt

from probes.abi.record import unsigned

PAGE = 4096
#: What memory holds before anybody writes it: bytes that are neither zero nor a likely answer.
POISON = 0xA5
PROT_NONE, PROT_READ, PROT_WRITE, PROT_EXEC = 0, 1, 2, 4
_MAP_PRIVATE, _MAP_ANONYMOUS, _MAP_32BIT, _MAP_NORESERVE = 0x02, 0x20, 0x40, 0x4000
_MAP_FIXED_NOREPLACE = 0x100000
_ARENA = 64 << 20

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


class OutOfMemory(Exception):
    """The kernel gave no mapping below 4 GiB, or refused to change one."""


def map_low(size: int, protection: int = PROT_READ | PROT_WRITE) -> int:
    """The address of `size` fresh bytes below 4 GiB (mmap(2), MAP_32BIT in a 64-bit process). Raises OutOfMemory."""
    flags = _MAP_PRIVATE | _MAP_ANONYMOUS | _MAP_NORESERVE
    if ctypes.sizeof(ctypes.c_void_p) == 8:
        flags |= _MAP_32BIT
    address = _libc.mmap(None, size, protection, flags, -1, 0)
    if address is None or address == ctypes.c_void_p(-1).value:
        raise OutOfMemory(f"mmap of {size} bytes below 4 GiB: {os.strerror(ctypes.get_errno())}")
    return int(address)


def map_at(address: int, size: int) -> None:
    """Fresh bytes at exactly this page (mmap(2), MAP_FIXED_NOREPLACE). Raises OutOfMemory: something is there already,
    or the address is not one that this process may have."""
    flags = _MAP_PRIVATE | _MAP_ANONYMOUS | _MAP_NORESERVE | _MAP_FIXED_NOREPLACE
    found = _libc.mmap(address, size, PROT_READ | PROT_WRITE, flags, -1, 0)
    if (found or 0) != address:
        number = ctypes.get_errno()
        raise OutOfMemory(f"mmap of {size} bytes at {address:#x}: {errno.errorcode.get(number, number)}")


def unmap(address: int, size: int) -> None:
    """munmap(2): a hole, until somebody maps something there. Raises OutOfMemory."""
    if _libc.munmap(address, size) != 0:
        raise OutOfMemory(f"munmap {address:#x}: {os.strerror(ctypes.get_errno())}")


def protect(address: int, size: int, protection: int) -> None:
    """mprotect(2). Raises OutOfMemory (ENOMEM is what a process with too many mappings gets)."""
    if _libc.mprotect(address, size, protection) != 0:
        number = ctypes.get_errno()
        raise OutOfMemory(f"mprotect {address:#x}: {errno.errorcode.get(number, number)}")


@dataclass(frozen=True)
class Block:
    """`size` bytes at `address`. int(block) is the address: a block is what a call's pointer word takes."""

    address: int
    size: int

    def __int__(self) -> int:
        return self.address

    @property
    def end(self) -> int:
        """The address after the last byte."""
        return self.address + self.size

    def part(self, offset: int, size: int | None = None) -> Block:
        """The bytes from `offset` on, as a block of their own. IndexError outside of this one."""
        size = self.size - offset if size is None else size
        if offset < 0 or size < 0 or offset + size > self.size:
            raise IndexError(f"{size} bytes at {offset} of a block of {self.size}")
        return Block(self.address + offset, size)

    def read(self) -> bytes:
        """The bytes as they are now."""
        return ctypes.string_at(self.address, self.size)

    def write(self, data: bytes) -> None:
        """Puts data at the beginning. IndexError if there is no room for it."""
        if len(data) > self.size:
            raise IndexError(f"{len(data)} bytes into a block of {self.size}")
        ctypes.memmove(self.address, data, len(data))

    def words(self) -> tuple[int, ...]:
        """The block as unsigned 32-bit words."""
        return struct.unpack(f"<{self.size // 4}I", self.read())


class Memory:
    """Allocates. Nothing is given back before the process ends: a test is a process."""

    def __init__(self) -> None:
        self._arena = Block(0, 0)
        self._used = 0
        self._hole = 0
        self._scratch = threading.local()

    def alloc(self, size: int, align: int = 16) -> Block:
        """`size` poisoned bytes at a multiple of `align`. Raises OutOfMemory."""
        start = -(-(self._arena.address + self._used) // align) * align - self._arena.address
        if start + size > self._arena.size:
            self._arena = Block(map_low(max(_ARENA, size + align)), max(_ARENA, size + align))
            start = -(-self._arena.address // align) * align - self._arena.address
        self._used = start + size
        block = self._arena.part(start, size)
        block.write(bytes([POISON]) * size)
        return block

    def put(self, data: bytes, align: int = 16) -> Block:
        """A block that holds data."""
        block = self.alloc(len(data), align)
        block.write(data)
        return block

    def words(self, *values: SupportsInt) -> Block:
        """A block of 32-bit words."""
        return self.put(_pack(values))

    def guarded(self, content: int | bytes, protection: int = PROT_READ | PROT_WRITE) -> Block:
        """A block (a size, or what it holds) whose last byte lies hard against an unmapped page; before it, poison."""
        size = content if isinstance(content, int) else len(content)
        room = max(1, -(-size // PAGE)) * PAGE
        base = map_low(room + PAGE)
        protect(base + room, PAGE, PROT_NONE)
        ctypes.memset(base, POISON, room)
        block = Block(base + room - size, size)
        if isinstance(content, bytes):
            block.write(content)
        if protection != PROT_READ | PROT_WRITE:
            protect(base, room, protection)
        return block

    def at(self, address: int, size: int) -> Block:
        """Poisoned bytes at exactly this page. Raises OutOfMemory: it is taken, or this process may not have it."""
        map_at(address, size)
        block = Block(address, size)
        block.write(bytes([POISON]) * size)
        return block

    def before_hole(self, size: int) -> Block:
        """Like `guarded`, up to a page, but nothing is mapped behind it."""
        base = map_low(2 * PAGE)
        unmap(base + PAGE, PAGE)
        ctypes.memset(base, POISON, PAGE)
        return Block(base + PAGE - size, size)

    def scratch(self, data: bytes, use: str) -> Block:
        """Like `guarded`, for a page at most, in a place that this thread takes again at its next call for that use."""
        page: Block | None = getattr(self._scratch, use, None)
        if page is None:
            page = self.guarded(PAGE)
            setattr(self._scratch, use, page)
        block = page.part(PAGE - len(data))
        block.write(data)
        return block

    def unmapped(self) -> int:
        """An address below 4 GiB at which a page faults."""
        if not self._hole:
            self._hole = map_low(PAGE, PROT_NONE)
        return self._hole


def _pack(values: tuple[SupportsInt, ...]) -> bytes:
    return struct.pack(f"<{len(values)}I", *(unsigned(int(value)) for value in values))


def pack_words(*values: int) -> bytes:
    """The bytes of an array of argument words; only the low 32 bits of each value count."""
    return _pack(values)
