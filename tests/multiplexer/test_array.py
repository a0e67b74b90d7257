"""Tests where the array of argument words may lie, and what the kernel does with it. Its length: test_words.py."""

import socket
from errno import EFAULT
from typing import SupportsInt

import pytest

from probes.abi.operations import OPERATIONS, SOCKETCALL
from probes.abi.sockaddr import inet
from probes.entry.gate import Result
from probes.entry.memory import PAGE, PROT_EXEC, PROT_NONE, PROT_READ, PROT_WRITE, pack_words
from probes.testing import behaviour, need, procfs

pytestmark = pytest.mark.routes("socketcall")

SOURCE = "socketcall(2) args; net/socket.c, net/compat.c `copy_from_user(a, args, len)`; S1 compat_sys_socketcall"
#: Longer than every array.
ROOM = 64


@behaviour("multiplexer.array.alignment", SOURCE)
def test_alignment(the_gate, memory, samples, expect):
    """The array needs no alignment: an operation reads it at each of the first 16 addresses of a page."""
    page = memory.alloc(PAGE, align=PAGE)
    for call, sample in samples.items():
        check, results = expect([sample.result] * 16, call=call, offsets="0..15"), []
        for offset in range(16):
            page.part(offset).write(sample.words)
            results.append(the_gate.enter(SOCKETCALL, call, page.address + offset))
        check.of(results, *results)


@behaviour("multiplexer.array.every-offset", SOURCE)
def test_every_offset(the_gate, memory, samples, expect):
    """The array may begin at any of the 4096 offsets of a page."""
    pages = memory.alloc(2 * PAGE, align=PAGE)
    call = OPERATIONS["sendto"].call
    sample = samples[call]
    check, results = expect([sample.result], offsets=f"0..{PAGE - 1}"), []
    for offset in range(PAGE):
        pages.part(offset).write(sample.words)
        results.append(the_gate.enter(SOCKETCALL, call, pages.address + offset))
    check.of(sorted(set(results)), *results)


@behaviour("multiplexer.array.straddling", SOURCE)
@pytest.mark.parametrize("second", ["writable", "read-only"])
def test_straddling(the_gate, memory, samples, second, expect):
    """The array may straddle two pages, split after any of its bytes, and the pages may differ in their protection."""
    pages = memory.alloc(2 * PAGE, align=PAGE)
    for call, sample in samples.items():
        check, results = expect([sample.result] * (len(sample.words) - 1), call=call), []
        for split in range(1, len(sample.words)):
            array = pages.part(PAGE - split, len(sample.words))
            array.write(sample.words)
            if second == "read-only":
                memory.space.protect(pages.address + PAGE, PAGE, PROT_READ)
            results.append(the_gate.enter(SOCKETCALL, call, array.address))
            memory.space.protect(pages.address + PAGE, PAGE, PROT_READ | PROT_WRITE)
        check.of([int(result) for result in results], *results)


@behaviour("multiplexer.array.read-only", SOURCE)
@pytest.mark.parametrize("access", ["read", "read-execute"])
def test_read_only(the_gate, memory, samples, access, expect):
    """The array may lie in memory that cannot be written."""
    protection = {"read": PROT_READ, "read-execute": PROT_READ | PROT_EXEC}[access]
    for call, sample in samples.items():
        array = memory.guarded(sample.words, protection)
        expect(sample.result, call=call).of(the_gate.enter(SOCKETCALL, call, array.address))


@behaviour("multiplexer.array.not-modified", SOURCE)
def test_not_modified(the_gate, memory, samples, expect):
    """The kernel changes neither the array nor the bytes around it."""
    for call, sample in samples.items():
        around = memory.alloc(ROOM + 2 * PAGE)
        around.part(PAGE).write(sample.words)
        before = around.read()
        check = expect(True, call=call)
        result = the_gate.enter(SOCKETCALL, call, around.address + PAGE)
        need(result, "the operation", returns=sample.result)
        check.of(around.read() == before, result)


@behaviour("multiplexer.array.further-words", f"{SOURCE}; S1 nas")
def test_further_words(the_gate, memory, samples, expect):
    """The kernel ignores the bytes behind the words of an operation, whatever their value."""
    for call, sample in samples.items():
        for name, byte in (("zeros", b"\0"), ("ones", b"\xff"), ("poison", b"\xa5")):
            array = memory.put(sample.words.ljust(ROOM, byte))
            expect(sample.result, call=call, beyond=name).of(the_gate.enter(SOCKETCALL, call, array.address))


@behaviour("multiplexer.array.copied-first", f"{SOURCE}; S4 1.5 steps 2 and 3")
def test_copied_first(the_gate, memory, samples, expect):
    """The kernel copies the words before the operation begins: the operation may write its results over its own array."""
    for name, outputs in (("getsockname", (1, 2)), ("getsockopt", (3, 4)), ("socketpair", (3,))):
        call = OPERATIONS[name].call
        sample = samples[call]
        check = expect(sample.result, call=call)
        array = memory.put(sample.words)
        for index in outputs:
            array.part(4 * index).write(pack_words(array.address))
        check.of(the_gate.enter(SOCKETCALL, call, array.address))


@behaviour("multiplexer.array.unreadable", f"{SOURCE}; S2 copy_from_user")
def test_unreadable(the_gate, memory, samples, expect):
    """Every operation fails with EFAULT if the first byte of its array cannot be read."""
    after = memory.alloc(2 * PAGE, align=PAGE)
    memory.space.protect(after.address, PAGE, PROT_NONE)
    places = {
        "null": 0,
        "first-page": PAGE - 1,
        "no-access": memory.unmapped(),
        "not-mapped": memory.before_hole(1).end,
        "one-byte-early": after.address + PAGE - 1,
        "top": 0xFFFFFFFF,
    }
    for call, sample in samples.items():
        after.part(PAGE).write(sample.words)
        for place, address in places.items():
            expect(-EFAULT, call=call, place=place).of(the_gate.enter(SOCKETCALL, call, address))


@behaviour("multiplexer.array.nothing-done", f"{SOURCE}; S2 copy_from_user")
def test_nothing_done(the_gate, memory, new_socket, expect):
    """An operation whose array has one unreadable byte has no effect: it makes no descriptor, names no socket, and lets none
    listen.
    """

    def refused(name: str, *words: SupportsInt) -> Result:
        array = pack_words(*(int(word) for word in words))
        readable = memory.guarded(array[:-1])
        result = the_gate.enter(SOCKETCALL, OPERATIONS[name].call, readable.address)
        need(result, "an operation without its last byte", returns=-EFAULT)
        return result

    tcp = new_socket(socket.AF_INET, socket.SOCK_STREAM)
    address = memory.put(inet("127.0.0.1", 5000))
    check, before = expect(True, operation="socket"), procfs.descriptors()
    result = refused("socket", socket.AF_INET, socket.SOCK_DGRAM, 0)
    check.of(procfs.descriptors() == before, result)
    check, before = expect(True, operation="socketpair"), procfs.descriptors()
    result = refused("socketpair", socket.AF_UNIX, socket.SOCK_STREAM, 0, memory.alloc(8))
    check.of(procfs.descriptors() == before, result)
    check = expect(inet("0.0.0.0", 0), operation="bind")
    result = refused("bind", tcp, address, 16)
    check.of(tcp.sockname(), result)
    check = expect(pack_words(0), operation="listen")
    result = refused("listen", tcp, 1)
    check.of(tcp.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN), result)
