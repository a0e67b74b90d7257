"""Allocate memory for the arguments of calls: below 4 GiB, poisoned, and up to the edge of a page that faults.

`int $0x80` passes the low 32 bits of each register, so every block lies below 4 GiB whatever the size of Python's
pointers. Tests reach this memory through these objects only, so that the calls may also be made by another process.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol, SupportsInt

from probes.abi.record import unsigned

PAGE = 4096
#: Fill byte of fresh memory: neither zero nor a likely output of the kernel.
POISON = 0xA5
PROT_NONE, PROT_READ, PROT_WRITE, PROT_EXEC = 0, 1, 2, 4
_MAP_PRIVATE, _MAP_ANONYMOUS, _MAP_32BIT, _MAP_NORESERVE = 0x02, 0x20, 0x40, 0x4000
_MAP_FIXED_NOREPLACE = 0x100000
_ARENA = 64 << 20
#: Where arenas are tried first, so that two runs have the same pointers in their values. Programs, their heaps and the
#: kernel's own choices lie outside, in processes of 32 and of 64 bits.
_ARENAS = range(0x70000000, 0x7C000000, _ARENA)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


class OutOfMemory(Exception):
    """The kernel refused a mapping below 4 GiB, or a change of one."""


def map_low(size: int, protection: int = PROT_READ | PROT_WRITE) -> int:
    """Map `size` zeroed bytes below 4 GiB (mmap(2), MAP_32BIT in a 64-bit process) and return their address.

    Raises OutOfMemory.
    """
    flags = _MAP_PRIVATE | _MAP_ANONYMOUS | _MAP_NORESERVE
    if ctypes.sizeof(ctypes.c_void_p) == 8:
        flags |= _MAP_32BIT
    address = _libc.mmap(None, size, protection, flags, -1, 0)
    if address is None or address == ctypes.c_void_p(-1).value:
        raise OutOfMemory(f"mmap of {size} bytes below 4 GiB: {os.strerror(ctypes.get_errno())}")
    return int(address)


def map_at(address: int, size: int) -> None:
    """Map `size` zeroed bytes at this page (mmap(2), MAP_FIXED_NOREPLACE).

    Raises OutOfMemory: the range is in use, or not available to this process (vm.mmap_min_addr).
    """
    flags = _MAP_PRIVATE | _MAP_ANONYMOUS | _MAP_NORESERVE | _MAP_FIXED_NOREPLACE
    found = _libc.mmap(address, size, PROT_READ | PROT_WRITE, flags, -1, 0)
    if (found or 0) != address:
        number = ctypes.get_errno()
        raise OutOfMemory(f"mmap of {size} bytes at {address:#x}: {errno.errorcode.get(number, number)}")


def unmap(address: int, size: int) -> None:
    """Unmap pages (munmap(2)). A later mapping may take the same addresses. Raises OutOfMemory."""
    if _libc.munmap(address, size) != 0:
        raise OutOfMemory(f"munmap {address:#x}: {os.strerror(ctypes.get_errno())}")


def protect(address: int, size: int, protection: int) -> None:
    """Change the protection of pages (mprotect(2)). Raises OutOfMemory (ENOMEM: too many mappings, vm.max_map_count)."""
    if _libc.mprotect(address, size, protection) != 0:
        number = ctypes.get_errno()
        raise OutOfMemory(f"mprotect {address:#x}: {errno.errorcode.get(number, number)}")


class Space(Protocol):
    """Is the address space of the process that makes the calls. Addresses are below 4 GiB."""

    def map_low(self, size: int, protection: int = ..., /) -> int:
        """Map zeroed pages, and return their address. Raises OutOfMemory."""

    def map_at(self, address: int, size: int, /) -> None:
        """Map zeroed pages at an address. Raises OutOfMemory: the range is in use, or not available."""

    def unmap(self, address: int, size: int, /) -> None:
        """Unmap pages. Raises OutOfMemory."""

    def protect(self, address: int, size: int, protection: int, /) -> None:
        """Change the protection of pages. Raises OutOfMemory."""

    def read(self, address: int, size: int, /) -> bytes:
        """Return bytes."""

    def write(self, address: int, data: bytes, /) -> None:
        """Write bytes."""


class _Own:
    """Is the address space of this process."""

    map_low = staticmethod(map_low)
    map_at = staticmethod(map_at)
    unmap = staticmethod(unmap)
    protect = staticmethod(protect)
    read = staticmethod(ctypes.string_at)

    @staticmethod
    def write(address: int, data: bytes) -> None:
        ctypes.memmove(address, data, len(data))


OWN: Space = _Own()


@dataclass(frozen=True)
class Block:
    """Refers to `size` bytes at `address`. int(block) is the address, so that a block can be a pointer word of a call."""

    address: int
    size: int
    space: Space = field(default=OWN, compare=False, repr=False)

    def __int__(self) -> int:
        """Return the address."""
        return self.address

    @property
    def end(self) -> int:
        """Return the address after the last byte."""
        return self.address + self.size

    def part(self, offset: int, size: int | None = None) -> Block:
        """Return a block of `size` bytes (default: all) from `offset` on. Raises IndexError beyond this block."""
        size = self.size - offset if size is None else size
        if offset < 0 or size < 0 or offset + size > self.size:
            raise IndexError(f"{size} bytes at {offset} of a block of {self.size}")
        return Block(self.address + offset, size, self.space)

    def read(self) -> bytes:
        """Return the current bytes."""
        return self.space.read(self.address, self.size)

    def written(self, count: int) -> bytes:
        """Return the first `count` bytes of a poisoned block, or all of it if anything behind them was written."""
        data = self.read()
        return data if data[max(0, count) :].strip(bytes([POISON])) else data[: max(0, count)]

    def write(self, data: bytes) -> None:
        """Write data at the start of the block. Raises IndexError if it is longer than the block."""
        if len(data) > self.size:
            raise IndexError(f"{len(data)} bytes into a block of {self.size}")
        self.space.write(self.address, data)

    def words(self) -> tuple[int, ...]:
        """Return the block as unsigned little-endian 32-bit words."""
        return struct.unpack(f"<{self.size // 4}I", self.read())


def _map_arena(space: Space, size: int) -> int:
    """Map an arena at the first free address of _ARENAS, or anywhere below 4 GiB, and return its address.

    Raises OutOfMemory.
    """
    if size == _ARENA:
        for address in _ARENAS:
            with suppress(OutOfMemory):
                space.map_at(address, size)
                return address
    return space.map_low(size)


class Memory:
    """Allocates blocks. Nothing is freed: each test is a process of its own."""

    def __init__(self, space: Space = OWN) -> None:
        """Allocate nothing yet."""
        self.space = space
        self._arena = Block(0, 0)
        self._used = 0
        self._hole = 0
        self._scratch = threading.local()

    def alloc(self, size: int, align: int = 16) -> Block:
        """Allocate `size` poisoned bytes at a multiple of `align`. Raises OutOfMemory."""
        start = -(-(self._arena.address + self._used) // align) * align - self._arena.address
        if start + size > self._arena.size:
            room = max(_ARENA, size + align)
            self._arena = Block(_map_arena(self.space, room), room, self.space)
            start = -(-self._arena.address // align) * align - self._arena.address
        self._used = start + size
        block = self._arena.part(start, size)
        block.write(bytes([POISON]) * size)
        return block

    def put(self, data: bytes, align: int = 16) -> Block:
        """Allocate a block that holds data."""
        block = self.alloc(len(data), align)
        block.write(data)
        return block

    def words(self, *values: SupportsInt) -> Block:
        """Allocate a block of 32-bit words; only the low 32 bits of each value count."""
        return self.put(_pack(values))

    def guarded(self, content: int | bytes, protection: int = PROT_READ | PROT_WRITE) -> Block:
        """Allocate a block that ends at a page without access (PROT_NONE); the bytes before it are poisoned.

        `content` is its size, poisoned too, or its bytes; `protection` holds for the block's own pages.
        """
        size = content if isinstance(content, int) else len(content)
        room = max(1, -(-size // PAGE)) * PAGE
        base = self.space.map_low(room + PAGE)
        self.space.protect(base + room, PAGE, PROT_NONE)
        self.space.write(base, bytes([POISON]) * room)
        block = Block(base + room - size, size, self.space)
        if isinstance(content, bytes):
            block.write(content)
        if protection != PROT_READ | PROT_WRITE:
            self.space.protect(base, room, protection)
        return block

    def at(self, address: int, size: int) -> Block:
        """Map poisoned bytes at this page. Raises OutOfMemory: it is in use, or not available to this process."""
        self.space.map_at(address, size)
        block = Block(address, size, self.space)
        block.write(bytes([POISON]) * size)
        return block

    def before_hole(self, size: int) -> Block:
        """Allocate a poisoned block of at most a page that ends at an unmapped page."""
        base = self.space.map_low(2 * PAGE)
        self.space.unmap(base + PAGE, PAGE)
        self.space.write(base, bytes([POISON]) * PAGE)
        return Block(base + PAGE - size, size, self.space)

    def scratch(self, data: bytes, use: str, behind: int = 0) -> Block:
        """Return a block of at most a page that holds data; `behind` poisoned bytes follow it, then a page without access.

        Each thread has one page for each `use`: its next call with the same `use` overwrites the block.
        """
        page: Block | None = getattr(self._scratch, use, None)
        if page is None:
            page = self.guarded(PAGE)
            setattr(self._scratch, use, page)
        block = page.part(PAGE - behind - len(data))
        block.write(data + bytes([POISON]) * behind)
        return block.part(0, len(data))

    def unmapped(self) -> int:
        """Return the address, below 4 GiB, of a page without access."""
        if not self._hole:
            self._hole = self.alloc(PAGE, PAGE).address
            self.space.protect(self._hole, PAGE, PROT_NONE)
        return self._hole


def _pack(values: tuple[SupportsInt, ...]) -> bytes:
    return struct.pack(f"<{len(values)}I", *(unsigned(int(value)) for value in values))


def pack_words(*values: int) -> bytes:
    """Return the bytes of an array of 32-bit argument words; only the low 32 bits of each value count."""
    return _pack(values)
