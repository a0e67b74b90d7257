"""Decode what is cut off, of odd size, of 64 bits, or of no operation: each is shown as far as it goes."""

from __future__ import annotations

import json
import random
import struct
from typing import Any

import pytest

from probes.abi.decode import decode
from probes.abi.notation import text
from probes.abi.operations import BY_NAME
from probes.abi.sockaddr import describe
from tests.instruments.decoding import DECODED, LOCAL, A, B, C, D, E, F, buffer, decoded_call, i32, u32


def test_an_address_cut_off_where_memory_ends() -> None:
    got, line = decoded_call("bind", [3, A, 16], {A: LOCAL[:5]}, -14, {})
    assert got["addr"] == {"family": "AF_INET", "raw": "020000507f", "missing": 11}
    assert line == "bind(3, {AF_INET raw=020000507f missing=11}, 16) = -14 EFAULT"


@pytest.mark.parametrize(
    ("raw", "size", "expected"),
    [
        (i32(16, 1, 1, 7) + i32(20, 1, 1, 8, 9), 36,
         [{"len": 16, "level": "SOL_SOCKET", "type": "SCM_RIGHTS", "data": [7]},
          {"len": 20, "level": "SOL_SOCKET", "type": "SCM_RIGHTS", "data": [8, 9]}]),
        (i32(13, 0, 1) + b"\x10\xaa\xaa\xaa" + i32(16, 0, 2, 64), 32,
         [{"len": 13, "level": "IPPROTO_IP", "type": "IP_TOS", "data": 16},
          {"len": 16, "level": "IPPROTO_IP", "type": "IP_TTL", "data": 64}]),
        (i32(24, 0, 8, 2) + b"\x7f\0\0\1\x7f\0\0\2", 24,
         [{"len": 24, "level": "IPPROTO_IP", "type": "IP_PKTINFO",
           "data": {"ifindex": 2, "spec_dst": "127.0.0.1", "addr": "127.0.0.2"}}]),
        (i32(20, 1, 29, 5, 6), 20,
         [{"len": 20, "level": "SOL_SOCKET", "type": "SO_TIMESTAMP_OLD", "data": {"sec": 5, "usec": 6}}]),
        (i32(4, 1, 1, 7), 16, [{"len": 4, "level": "SOL_SOCKET", "type": "SCM_RIGHTS"}]),
        (i32(999, 1, 1, 7), 16,
         [{"len": 999, "level": "SOL_SOCKET", "type": "SCM_RIGHTS",
           "data": buffer(i32(7), "\\x07\\x00\\x00\\x00", more=983)}]),
        (i32(16, 1, 1, 7), 11, [{"raw": "100000000100000001" + "0000"}]),
        (i32(15, -1, 77) + b"abc", 15, [{"len": 15, "level": -1, "type": 77, "data": buffer(b"abc", "abc")}]),
    ],
)  # fmt: skip
def test_control_messages(raw: bytes, size: int, expected: list[dict[str, Any]]) -> None:
    got, _ = decoded_call("sendmsg", [3, F, 0], {F: u32(0, 0, 0, 0, C, size, 0), C: raw}, 0, {})
    assert got["msg"]["control"] == expected


def test_native_calls_have_the_layouts_of_64_bits() -> None:
    """msghdr, iovec, cmsghdr and timeval of x86-64, above four gigabytes."""
    high = 0x7FFF_0000_0000
    header = struct.pack("<QiiQQQQiI", high + A, 16, 0xAAAA, high + B, 1, high + C, 24, 0, 0xAAAA)
    memory = {
        high + F: header,
        high + A: LOCAL,
        high + B: struct.pack("<QQ", high + D, 3),
        high + C: struct.pack("<Qiii", 20, 1, 1, 7) + bytes(4),
        high + D: b"abc",
    }
    got, _ = decoded_call("sendmsg", [3, high + F, 0], memory, 3, {}, word=64)
    assert got["msg"] == {
        "name": DECODED, "namelen": 16, "iov": [{"base": hex(high + D), "len": 3, "data": buffer(b"abc", "abc")}],
        "iovlen": 1, "control": [{"len": 20, "level": "SOL_SOCKET", "type": "SCM_RIGHTS", "data": [7]}],
        "controllen": 24, "flags": 0}  # fmt: skip
    vector = (header + struct.pack("<II", 3, 0)) * 2
    got, _ = decoded_call("sendmmsg", [3, high + E, 2, 0], {**memory, high + E: vector}, 2, {}, word=64)
    assert [entry["len"] for entry in got["msgvec"]] == [3, 3]
    got, line = decoded_call(
        "setsockopt", [3, 1, 20, high + A, 16], {high + A: struct.pack("<qq", 5, 6)}, 0, {}, word=64
    )
    assert got["optval"] == {"sec": 5, "usec": 6}
    got, line = decoded_call("close", [0xDEAD_FFFF_FFFF], {}, -9, {}, word=64)
    assert line == "close(-1) = -9 EBADF"


def test_an_i386_call_of_a_64_bit_process_uses_low_halves() -> None:
    got, _ = decoded_call("bind", [0xBBBB_0000_0003, 0xBBBB_0000_1000, 16], {A: LOCAL}, 0, {})
    assert got == {"fd": 3, "addr": DECODED, "addrlen": 16}
    got, _ = decoded_call("bind", [0xBBBB_0000_0003, 0xBBBB_0000_1000, 16], {}, -14, {})
    assert got["addr"] == "0x1000"


def test_words_that_could_not_be_read_are_left_out() -> None:
    assert decode(BY_NAME["bind"], [3], {}, {}, -14, 32) == {"fd": 3}
    assert decode(BY_NAME["close"], [3, 8, 9], {}, {}, 0, 32) == {"fd": 3}


def test_a_call_without_a_name() -> None:
    assert text("", {}, -22) == "?() = -22 EINVAL"


BLOBS = ["addr", "addrlen", "buf", "optval", "optlen", "sv", "msg", "msg.name", "msg.iov", "msg.data.0", "msg.control",
         "msgvec", "msgvec.0", "msgvec.0.iov", "msgvec.1.control", "iov", "data.0", "fds", "readfds", "timeout", "argp",
         "arg"]  # fmt: skip


def test_blobs_of_another_call_are_no_reason_to_raise() -> None:
    """Decoding never raises, whatever bytes stand under whatever name."""
    chance = random.Random(21)
    for _ in range(20_000):
        before, after = (
            {name: chance.randbytes(chance.randrange(80)) for name in chance.sample(BLOBS, 6)} for _ in range(2)
        )
        op, ret = chance.choice(list(BY_NAME)), chance.choice([None, -1, 0, 5])
        words = [chance.getrandbits(32) for _ in range(chance.randrange(7))]
        decoded = decode(BY_NAME[op], words, before, after, ret, chance.choice([32, 64]))
        json.dumps(decoded)
        text(op, decoded, ret)


@pytest.mark.parametrize(
    ("decoded", "line"),
    [
        ({"addr": {"family": "AF_INET6", "host": "::1", "port": 5, "flow": 0, "scope": 0}},
         "f({AF_INET6 [::1]:5}) = 0"),
        ({"addr": {"family": "AF_INET6", "host": "fe80::1", "port": 5, "flow": 1, "scope": 2, "missing": 4}},
         "f({AF_INET6 [fe80::1]:5 flow=1 scope=2 missing=4}) = 0"),
        ({"addr": {"family": "AF_UNIX", "abstract": "x"}}, 'f({AF_UNIX @"x"}) = 0'),
        ({"addr": {"family": "AF_UNIX", "path": "/x", "terminated": False}}, 'f({AF_UNIX "/x"}) = 0'),
        ({"addr": {"family": "AF_UNIX", "unnamed": True}}, "f({AF_UNIX}) = 0"),
        ({"addr": {"family": "AF_NETLINK", "pid": 0, "groups": 1}}, "f({AF_NETLINK pid=0 groups=1}) = 0"),
        ({"addr": {"raw": "02", "missing": 1}}, "f({raw=02 missing=1}) = 0"),
        ({"a": None, "b": True, "c": [], "d": {}, "e": 1.5}, "f(?, True, [], {}, 1.5) = 0"),
    ],
)  # fmt: skip
def test_lines(decoded: dict[str, Any], line: str) -> None:
    assert text("f", decoded, 0) == line


def test_addresses_of_any_length():
    """An address of any family is described at every length, too short or too long for its structure."""
    for number in range(64):
        for length in range(140):
            described = describe((number.to_bytes(2, "little") + bytes(range(1, 139)))[:length])
            assert ("family" in described) == (length >= 2)
