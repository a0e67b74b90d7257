"""Fetch the memory of a call: never NULL, never more than the limits, never what the call does not use."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Mapping

import pytest

from probes.abi.decode import decode
from probes.abi.fetch import fetch
from probes.abi.notation import text
from probes.abi.operations import BY_NAME

A, B, C, D, E = 0x1000, 0x2000, 0x3000, 0x4000, 0x5000


class Memory:
    """Regions by address. Nothing outside them is readable, and every read is noted."""

    def __init__(self, regions: Mapping[int, bytes]) -> None:
        self.regions, self.reads = regions, list[tuple[int, int]]()

    def __call__(self, address: int, size: int) -> bytes:
        assert address, "NULL was read"
        assert 0 < size <= 1024, f"{size} bytes were asked for"
        self.reads.append((address, size))
        for start, raw in self.regions.items():
            if start <= address < start + len(raw):
                return raw[address - start :][:size]
        return b""


def i32(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}i", *values)


def u32(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


@pytest.mark.parametrize("op", ["socket", "listen", "shutdown", "close", "getpid", "dup"])
def test_calls_without_pointers_read_nothing(op: str) -> None:
    memory = Memory({A: bytes(64)})
    assert fetch(BY_NAME[op], [A] * 6, memory, None, 32) == {}
    assert fetch(BY_NAME[op], [A] * 6, memory, 0, 32) == {}
    assert memory.reads == []


WRITERS = ["accept", "recv", "recvfrom", "getsockopt", "socketpair", "recvmsg", "recvmmsg", "read"]


@pytest.mark.parametrize("op", WRITERS)
def test_a_call_that_failed_wrote_nothing(op: str) -> None:
    memory = Memory({A: b"\x04\0\0\0" * 16})
    assert fetch(BY_NAME[op], [A] * 6, memory, -1, 32) == {}
    assert memory.reads == []
    assert fetch(BY_NAME[op], [A] * 6, memory, 1, 32) != {}


@pytest.mark.parametrize("op", sorted(BY_NAME))
@pytest.mark.parametrize("ret", [None, 8])
def test_null_is_never_read(op: str, ret: int | None) -> None:
    memory = Memory({})
    fetch(BY_NAME[op], [0] * 6, memory, ret, 32)
    fetch(BY_NAME[op], [], memory, ret, 32)
    fetch(BY_NAME[op], [1 << 32] * 6, memory, ret, 32)
    assert memory.reads == []


@pytest.mark.parametrize(
    ("op", "words", "reads"),
    [
        ("bind", [3, A, 3], [(A, 3)]),
        ("bind", [3, A, 0x7FFFFFFF], [(A, 128)]),
        ("bind", [3, A, 0x80000000], []),
        ("send", [3, A, 0xFFFFFFFF, 0], [(A, 64)]),
        ("send", [3, A, 0, 0], []),
        ("setsockopt", [3, 1, 1, A, 5000], [(A, 64)]),
        ("setsockopt", [3, 0, 42, A, 132], [(A, 132)]),
        ("setsockopt", [3, 0, 42, A, 5000], [(A, 136)]),
        ("setsockopt", [3, 41, 46, A, 260], [(A, 260)]),
        ("setsockopt", [3, 1, 26, A, 8], [(A, 8)]),
        ("accept", [3, A, B], [(B, 4)]),
        ("getsockopt", [3, 1, 1, A, B], [(B, 4)]),
        ("recv", [3, A, 64, 0], []),
        ("recvfrom", [3, A, 64, 0, B, C], [(C, 4)]),
        ("sendmsg", [3, A, 0], [(A, 28)]),
        ("recvmmsg", [3, A, 0xFFFFFFFF, 0, B], [(B, 8), (A, 256)]),
        ("recvmmsg_time64", [3, A, 0xFFFFFFFF, 0, B], [(B, 16), (A, 256)]),
        ("sendfile", [3, 4, B, 7], [(B, 4)]),
        ("sendfile64", [3, 4, B, 7], [(B, 8)]),
        ("sendmmsg", [3, A, 3, 0], [(A, 96)]),
        ("ppoll_time64", [A, 1, B, 0, 8], [(B, 16), (A, 8)]),
        ("pselect6_time64", [33, A, 0, 0, B, 0], [(B, 16), (A, 8)]),
        ("epoll_ctl", [3, 1, 4, A], [(A, 12)]),
        ("epoll_wait", [3, A, 8, 0], []),
        ("select", [A], []),
        ("poll", [A, 0xFFFFFFFF, 0], [(A, 64)]),
        ("_newselect", [33, A, B, 0, C], [(C, 8), (B, 8), (A, 8)]),
        ("_newselect", [0x7FFFFFFF, A, 0, 0, 0], [(A, 64)]),
        ("_newselect", [0xFFFFFFFF, A, 0, 0, 0], []),
        ("writev", [3, A, 1024], [(A, 32)]),
    ],
)
def test_how_much_is_read_at_entry(op: str, words: list[int], reads: list[tuple[int, int]]) -> None:
    memory = Memory({})
    fetch(BY_NAME[op], words, memory, None, 32)
    assert memory.reads == reads


@pytest.mark.parametrize(
    ("op", "words", "reads"),
    [
        ("recvmsg", [3, A, 0], [(A, 28), (B, 8)]),
        ("recvmmsg", [3, E, 1, 0, 0], [(E, 32), (B, 8)]),
        ("readv", [3, B, 1], [(B, 8)]),
        ("sendto", [3, C, 3, 0], [(C, 3)]),
    ],
)
def test_buffers_to_be_filled_and_words_that_lack_are_not_read(
    op: str, words: list[int], reads: list[tuple[int, int]]
) -> None:
    header = u32(D, 16, B, 1, D, 16, 0)
    memory = Memory({A: header, B: u32(C, 10), C: bytes(10), D: bytes(16), E: header + bytes(4)})
    fetch(BY_NAME[op], words, memory, None, 32)
    assert memory.reads == reads


@pytest.mark.parametrize(
    ("op", "words", "ret", "regions", "reads"),
    [
        ("recv", [3, A, 1000, 0], 500, {}, [(A, 64)]),
        ("recv", [3, A, 10, 0], 500, {}, [(A, 10)]),
        ("recv", [3, A, 10, 0], 4, {}, [(A, 4)]),
        ("accept", [3, A, B], 4, {B: i32(0x7FFFFFFF)}, [(B, 4), (A, 128)]),
        ("accept", [3, A, B], 4, {B: i32(-1)}, [(B, 4)]),
        ("accept", [3, A, B], 4, {B: b"\1\0\0"}, [(B, 4)]),
        ("accept", [3, 0, B], 4, {B: i32(16)}, [(B, 4)]),
        ("getsockname", [3, 0, B], 0, {B: i32(16)}, [(B, 4)]),
        ("getsockopt", [3, 1, 1, 0, B], 0, {B: i32(4)}, [(B, 4)]),
        ("getsockopt", [3, 1, 1, A, B], 0, {B: i32(5000)}, [(B, 4), (A, 64)]),
        ("getsockopt", [3, 6, 11, A, B], 0, {B: i32(232)}, [(B, 4), (A, 232)]),
        ("getsockopt", [3, 6, 11, A, B], 0, {B: i32(5000)}, [(B, 4), (A, 248)]),
        ("recvmsg", [3, A, 0], 3, {A: u32(C, 200, B, 0xFFFFFFFF, D, 0xFFFFFFFF, 0)},
         [(A, 28), (C, 128), (B, 32), (D, 128)]),
        ("recvmsg", [3, A, 0], 3, {A: u32(C, 0xFFFFFFFF, 0, 1, 0, 1, 0)}, [(A, 28)]),
        ("sendmmsg", [3, A, 4, 0], 2, {A: bytes(128)}, [(A, 64)]),
        ("recvmmsg", [3, A, 1000, 0, 0], 1000, {A: bytes(9000)}, [(A, 256)]),
        ("epoll_wait", [3, A, 8, 0], 1, {}, [(A, 12)]),
        ("epoll_wait", [3, A, 1000, 0], 1000, {}, [(A, 96)]),
    ],
)  # fmt: skip
def test_how_much_is_read_at_exit(
    op: str, words: list[int], ret: int, regions: dict[int, bytes], reads: list[tuple[int, int]]
) -> None:
    memory = Memory(regions)
    fetch(BY_NAME[op], words, memory, ret, 32)
    assert memory.reads == reads


def test_received_data_ends_where_the_result_does() -> None:
    """Three buffers of 2, 100 and 9 bytes, 70 bytes received: nothing is read of the third."""
    memory = Memory({A: u32(0, 0, B, 3, 0, 0, 0), B: u32(C, 2, D, 100, E, 9), C: b"ab", D: b"x" * 100, E: b"stale-old"})
    blobs = fetch(BY_NAME["recvmsg"], [3, A, 0], memory, 70, 32)
    assert (blobs["msg.data.0"], blobs["msg.data.1"]) == (b"ab", b"x" * 64)
    assert "msg.data.2" not in blobs
    assert {address for address, _ in memory.reads} == {A, B, C, D}


#: How much of a blob there may be, by the last part of its name.
CAPS = {"addr": 128, "name": 128, "control": 128, "buf": 64, "optval": 656, "addrlen": 4, "optlen": 4, "sv": 8,
        "msg": 28, "msgvec": 256, "iov": 32, "fds": 64, "event": 12, "events": 96, "readfds": 64, "writefds": 64,
        "exceptfds": 64, "timeout": 16, "argp": 40, "arg": 8, "offset": 8}  # fmt: skip
WIDER = {"msg": 56, "msgvec": 512, "iov": 64}


class Anything:
    """Memory full of chance: odd lengths, structures that point anywhere, now and then more than was asked for."""

    def __init__(self, chance: random.Random, limit: int) -> None:
        self.chance, self.limit, self.reads = chance, limit, 0

    def word(self) -> bytes:
        return struct.pack("<I", self.chance.choice([0, 0, 1, 2, 3, 4, 8, 12, 16, 20, 28, 64, 0x7FFFFFFF, 0x80000000,
                                                     0xFFFFFFFF, self.chance.getrandbits(32)]))  # fmt: skip

    def __call__(self, address: int, size: int) -> bytes:
        assert 0 < address < 1 << self.limit
        assert 0 < size <= 1024
        self.reads += 1
        raw = b"".join(self.word() for _ in range(size // 4 + 2))
        return raw[: self.chance.choice([0, 1, size // 2, size - 1, size, size, size, size, size + 3])]


def test_any_words_and_memory_are_fetched_and_decoded() -> None:
    chance = random.Random(20)
    values = [0, 1, 2, 3, 4, 8, 12, 13, 16, 20, 41, 255, 263, 0x8912, 0x541B, A, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
    options = [
        (1, 13),
        (1, 17),
        (1, 20),
        (1, 66),
        (0, 35),
        (0, 40),
        (0, 80),
        (41, 20),
        (263, 1),
        (1, 28),
        (6, 13),
        (0, 41),
        (0, 42),
        (41, 46),
        (0, 48),
        (1, 26),
        (263, 6),
        (6, 11),
    ]
    ops = list(BY_NAME)
    for _ in range(20_000):
        op, word = chance.choice(ops), chance.choice([32, 64])
        count = chance.choice([0, 1, 3, 5, 6, 6, 6])
        words = [chance.choice([*values, chance.getrandbits(word)]) for _ in range(count)]
        if op in ("setsockopt", "getsockopt") and len(words) > 2:
            words[1:3] = chance.choice(options)
        ret = chance.choice([None, -1, -4095, -512, 0, 1, 4, 16, 64, 0x7FFFFFFF, -(1 << 31)])
        memory = Anything(chance, word)
        before = fetch(BY_NAME[op], words, memory, None, word)
        after = {} if ret is None else fetch(BY_NAME[op], words, memory, ret, word)
        assert memory.reads <= 2 * (2 + 8 * 7)
        for name, raw in (*before.items(), *after.items()):
            last = [part for part in name.split(".") if not part.isdigit()][-1]
            cap = 64 if last == "data" else (CAPS | WIDER)[last] if word == 64 else CAPS[last]
            assert 0 < len(raw) <= cap, name
        decoded = decode(BY_NAME[op], words, before, after, ret, word)
        json.dumps(decoded, allow_nan=False)
        line = text(op, decoded, ret)
        assert line.isprintable() and line.isascii()
