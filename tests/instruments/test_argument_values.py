"""Decode every structure, request and flag that has a name: one row each, numbers and bytes as literals."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from probes.abi import names
from probes.abi.arguments.bpf import instructions
from probes.abi.decode import decode
from probes.abi.fetch import fetch
from probes.abi.operations import BY_NAME

AT, CONTROL = 0x1000, 0x2000
GROUP, HERE, SOURCE = b"\xe0\0\0\1", b"\x7f\0\0\1", b"\x0a\0\0\2"
LOCAL = b"\x02\x00\x00\x50" + HERE + bytes(8)
LOCAL6 = b"\x0a\x00\x00\x50" + bytes(4) + bytes(15) + b"\1" + bytes(4)
ADDRESS = {"family": "AF_INET", "host": "127.0.0.1", "port": 80}
ADDRESS6 = {"family": "AF_INET6", "host": "::1", "port": 80, "flow": 0, "scope": 0}
TWO_LINKS = bytes(14) + b"\xbe\xef"
MREQ = {"multiaddr": "224.0.0.1", "interface": "127.0.0.1"}
SOURCED = MREQ | {"sourceaddr": "10.0.0.2"}
GROUP_STORAGE, SOURCE_STORAGE = (b"\x02\0\0\0" + host + bytes(120) for host in (GROUP, SOURCE))
GROUP_ADDRESS, SOURCE_ADDRESS = (
    {"family": "AF_INET", "host": host, "port": 0, "leftover": 112} for host in ("224.0.0.1", "10.0.0.2")
)
SIX = {"address": "::beef", "ifindex": 3}
PACKET = {"ifindex": 2, "type": 1, "alen": 6, "address": "aabbccddeeff0000"}
ERROR = {"errno": 111, "origin": 2, "type": 3, "code": 1, "pad": 0, "info": 7, "data": 9}
TIMES = {
    "software_sec": 1,
    "software_nsec": 2,
    "legacy_sec": 3,
    "legacy_nsec": 4,
    "hardware_sec": 5,
    "hardware_nsec": 6,
}
AUXDATA = {"status": 1, "len": 60, "snaplen": 40, "mac": 14, "net": 28, "vlan_tci": 5, "vlan_tpid": 0x8100}
ERROR_BYTES = struct.pack("<IBBBBII", 111, 2, 3, 1, 0, 7, 9)


def i32(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}i", *values)


def i64(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}q", *values)


def unknown(raw: bytes) -> dict[str, Any]:
    return {"hex": raw.hex()}


#: level, option, its bytes, the decoded value.
OPTIONS: list[tuple[int, int, bytes, Any]] = [
    (1, 13, i32(1, 30), {"onoff": 1, "linger": 30}),
    (1, 17, i32(1, 2, 3), {"pid": 1, "uid": 2, "gid": 3}),
    (1, 20, i32(1, 2), {"sec": 1, "usec": 2}),
    (1, 21, i32(-1, 2), {"sec": -1, "usec": 2}),
    (1, 66, i64(1, 2), {"sec": 1, "usec": 2}),
    (1, 67, i64(1 << 40, 2), {"sec": 1 << 40, "usec": 2}),
    (1, 28, LOCAL, ADDRESS),
    (0, 80, LOCAL, ADDRESS),
    (0, 32, HERE, {"address": "127.0.0.1"}),
    (0, 32, GROUP + HERE, MREQ),
    (0, 35, GROUP + HERE, MREQ),
    (0, 35, GROUP + HERE + i32(5), MREQ | {"ifindex": 5}),
    (0, 36, GROUP + HERE, MREQ),
    (0, 37, GROUP + HERE + SOURCE, SOURCED),
    (0, 38, GROUP + HERE + SOURCE, SOURCED),
    (0, 39, GROUP + HERE + SOURCE, SOURCED),
    (0, 40, GROUP + HERE + SOURCE, SOURCED),
    (41, 20, TWO_LINKS + i32(3), SIX),
    (41, 21, TWO_LINKS + i32(3), SIX),
    (41, 27, TWO_LINKS + i32(3), SIX),
    (41, 28, TWO_LINKS + i32(3), SIX),
    (263, 1, i32(2) + b"\1\0\6\0\xaa\xbb\xcc\xdd\xee\xff\0\0", PACKET),
    (263, 2, i32(2) + b"\1\0\6\0\xaa\xbb\xcc\xdd\xee\xff\0\0", PACKET),
    (
        0,
        41,
        GROUP + HERE + i32(1, 2) + SOURCE + HERE,
        MREQ | {"fmode": 1, "numsrc": 2, "sources": ["10.0.0.2", "127.0.0.1"]},
    ),
    (0, 42, i32(3) + GROUP_STORAGE, {"interface": 3, "group": GROUP_ADDRESS}),
    (41, 45, i32(3) + GROUP_STORAGE, {"interface": 3, "group": GROUP_ADDRESS}),
    *(
        (
            0,
            option,
            i32(3) + GROUP_STORAGE + SOURCE_STORAGE,
            {"interface": 3, "group": GROUP_ADDRESS, "source": SOURCE_ADDRESS},
        )
        for option in (43, 44, 46, 47)
    ),
    (
        0,
        48,
        i32(3) + GROUP_STORAGE + i32(0, 1) + SOURCE_STORAGE,
        {"interface": 3, "group": GROUP_ADDRESS, "fmode": 0, "numsrc": 1, "sources": [SOURCE_ADDRESS]},
    ),
    (1, 51, struct.pack("<HxxI", 6, 0x1000), {"len": 6, "filter": "0x1000"}),
    (263, 6, i32(7, 2), {"packets": 7, "drops": 2}),
    (263, 6, i32(7, 2, 1), {"packets": 7, "drops": 2, "freeze_q_cnt": 1}),
    # An int of four bytes has a sign, a byte has none; other lengths are bytes.
    (1, 4, i32(-111), -111),
    (6, 13, b"cubic", unknown(b"cubic") | {"text": "cubic"}),
    (41, 26, b"\1\0\0", unknown(b"\1\0\0") | {"text": "\\x01\\x00\\x00"}),
    (0, 33, b"\xff", 255),
    (12345, 1, i32(-1), -1),
]
#: level, type, data of a control message, the decoded data.
CONTROLS: list[tuple[int, int, bytes, Any]] = [
    (1, 1, i32(3, 4, 5), [3, 4, 5]),
    (1, 1, b"", []),
    (1, 2, i32(1, 2, 3), {"pid": 1, "uid": 2, "gid": 3}),
    (1, 4, i32(9), 9),
    (1, 29, i32(1, 2), {"sec": 1, "usec": 2}),
    (1, 35, i32(1, 2), {"sec": 1, "nsec": 2}),
    (1, 63, i64(1, 2), {"sec": 1, "usec": 2}),
    (1, 64, i64(1, 2), {"sec": 1, "nsec": 2}),
    (1, 37, i32(1, 2, 3, 4, 5, 6), TIMES),
    (1, 65, i64(1, 2, 3, 4, 5, 6), TIMES),
    (263, 8, struct.pack("<3I4H", 1, 60, 40, 14, 28, 5, 0x8100), AUXDATA),
    (0, 1, b"\x10", 16),
    (0, 2, i32(64), 64),
    (0, 8, i32(2) + HERE + SOURCE, {"ifindex": 2, "spec_dst": "127.0.0.1", "addr": "10.0.0.2"}),
    (0, 11, ERROR_BYTES, ERROR),
    (0, 11, ERROR_BYTES + LOCAL, ERROR | {"offender": ADDRESS}),
    (41, 25, ERROR_BYTES + LOCAL6, ERROR | {"offender": ADDRESS6}),
    (0, 20, LOCAL, ADDRESS),
    (41, 74, LOCAL6, ADDRESS6),
    (41, 50, TWO_LINKS + i32(3), SIX),
]


@pytest.mark.parametrize(("level", "option", "raw", "expected"), OPTIONS)
def test_option_values(level: int, option: int, raw: bytes, expected: Any) -> None:
    decoded = decode(BY_NAME["setsockopt"], [3, level, option, AT, len(raw)], {"optval": raw}, {}, 0, 32)
    assert decoded["optval"] == expected
    length = {"optlen": i32(len(raw))}
    decoded = decode(BY_NAME["getsockopt"], [3, level, option, AT, AT], length, {"optval": raw + b"x", **length}, 0, 32)
    assert decoded["optval"] == expected


#: Options whose value may have any length.
ANY_LENGTH = [(1, 28), (0, 80), (0, 41), (0, 48)]


@pytest.mark.parametrize(("level", "option", "raw"), [row[:3] for row in OPTIONS if row[:2] not in ANY_LENGTH])
def test_an_option_value_of_another_length_is_bytes(level: int, option: int, raw: bytes) -> None:
    raw = raw[:-1] + b"odd"
    decoded = decode(BY_NAME["setsockopt"], [3, level, option, AT, len(raw)], {"optval": raw}, {}, 0, 32)
    assert decoded["optval"]["hex"] == raw.hex()


@pytest.mark.parametrize(("level", "number", "raw", "expected"), CONTROLS)
def test_control_messages(level: int, number: int, raw: bytes, expected: Any) -> None:
    """Two messages of one type, the first padded to four bytes, eight in a native call."""
    one = struct.pack("<Iii", 12 + len(raw), level, number) + raw
    both = one + bytes(-len(one) % 4) + one
    header = struct.pack("<IiIIIII", 0, 0, 0, 0, CONTROL, len(both), 0)
    decoded = decode(BY_NAME["sendmsg"], [3, AT, 0], {"msg": header, "msg.control": both}, {}, 0, 32)
    assert [message["data"] for message in decoded["msg"]["control"]] == [expected, expected]
    if (level, number) in ((1, 29), (1, 35), (1, 37)):
        return  # longs: their native layout is another
    one = struct.pack("<Qii", 16 + len(raw), level, number) + raw
    both = one + bytes(-len(one) % 8) + one
    header = struct.pack("<QiiQQQQiI", 0, 0, 0, 0, 0, CONTROL, len(both), 0, 0)
    decoded = decode(BY_NAME["sendmsg"], [3, AT, 0], {"msg": header, "msg.control": both}, {}, 0, 64)
    assert [message["data"] for message in decoded["msg"]["control"]] == [expected, expected]


def setsockopt(level: int, option: int, raw: bytes, word: int = 32) -> Any:
    """Fetch and decode an option's value, as the tracer does."""
    words = [3, level, option, AT, len(raw)]
    blobs = fetch(BY_NAME["setsockopt"], words, lambda _, size: raw[:size], None, word)
    return decode(BY_NAME["setsockopt"], words, blobs, {}, 0, word)["optval"]


def test_a_group_request_is_fetched_whole() -> None:
    """132 bytes on i386, where the address is at offset 4; 136 at the x86-64 entry, where it is at offset 8."""
    expected = {"interface": 3, "group": GROUP_ADDRESS}
    assert setsockopt(0, 42, i32(3) + GROUP_STORAGE) == expected
    assert setsockopt(0, 42, i32(3, 0) + GROUP_STORAGE, 64) == expected
    both = expected | {"source": SOURCE_ADDRESS}
    assert setsockopt(0, 46, i32(3) + GROUP_STORAGE + SOURCE_STORAGE) == both
    assert setsockopt(0, 46, i32(3, 0) + GROUP_STORAGE + SOURCE_STORAGE, 64) == both
    short = setsockopt(0, 42, i32(3) + GROUP_STORAGE[:124])
    assert (short["hex"], "more" in short) == ((i32(3) + GROUP_STORAGE[:124]).hex(), False)


def test_a_filter_says_how_many_bytes_of_it_were_not_fetched() -> None:
    head = {"interface": 3, "group": GROUP_ADDRESS, "fmode": 1, "numsrc": 9}
    raw = i32(3) + GROUP_STORAGE + i32(1, 9)
    assert setsockopt(0, 48, raw + SOURCE_STORAGE * 9) == head | {"sources": [SOURCE_ADDRESS] * 4, "more": 5 * 128}
    raw = GROUP + HERE + i32(1, 99)
    sources = {"sources": ["10.0.0.2"] * 16, "more": 83 * 4}
    assert setsockopt(0, 41, raw + SOURCE * 99) == MREQ | {"fmode": 1, "numsrc": 99} | sources
    assert setsockopt(0, 41, raw[:15]) == unknown(raw[:15]) | {"text": "\\xe0\\x00\\x00\\x01\\x7f\\x00\\x00\\x01"
                                                               "\\x01\\x00\\x00\\x00c\\x00\\x00"}  # fmt: skip


def getsockopt(level: int, option: int, raw: bytes) -> Any:
    """Fetch and decode the value that an option's call wrote."""
    words = [3, level, option, AT, CONTROL]

    def read(address: int, size: int) -> bytes:
        return (raw if address == AT else i32(len(raw)))[:size]

    before, after = (fetch(BY_NAME["getsockopt"], words, read, ret, 32) for ret in (None, 0))
    return decode(BY_NAME["getsockopt"], words, before, after, 0, 32)["optval"]


def test_tcp_info_is_decoded_as_far_as_the_kernel_wrote_it() -> None:
    head = bytes([1, 0, 0, 0, 0, 7, 0xA7, 1]) + i32(*range(1, 25))
    decoded = getsockopt(6, 11, head)
    assert (decoded["state"], decoded["wscale"], decoded["rto"]) == (1, {"snd": 7, "rcv": 10}, 1)
    assert list(decoded)[-1] == "total_retrans" and decoded["total_retrans"] == 24
    decoded = getsockopt(6, 11, head + i64(1 << 40, 2, 3, 4) + bytes(112) + b"beyond what 6.12 has")
    assert (decoded["pacing_rate"], decoded["bytes_received"], decoded["more"]) == (1 << 40, 4, 20)
    assert list(decoded)[-2:] == ["total_rto_time", "more"]
    assert getsockopt(6, 11, head[:-1])["more"] == 3


def test_a_filter_program_is_decoded_where_it_is_set() -> None:
    """The same number is SO_GET_FILTER in getsockopt, whose value is an array of instructions."""
    # (The memory is that of the value wherever it is read: its own bytes are the instructions.)
    one = setsockopt(1, 26, struct.pack("<HxxI", 6, 0x1000))
    assert one == {"len": 6, "filter": "0x1000", "instructions": ["BPF_STMT(BPF_RET|BPF_K, 0x1000)"]}
    two = setsockopt(1, 26, struct.pack("<H6xQ", 1, 1 << 40), 64)
    assert two == {"len": 1, "filter": hex(1 << 40), "instructions": ["BPF_STMT(BPF_LDX|BPF_W|BPF_IMM, 0)"]}
    assert getsockopt(1, 26, bytes(8))["hex"] == "00" * 8


@pytest.mark.parametrize(("words", "text"), [
    ((0x28, 0, 0, 12), "BPF_STMT(BPF_LD|BPF_H|BPF_ABS, 0xc)"),
    ((0x20, 0, 0, 0xFFFFF000 + 8), "BPF_STMT(BPF_LD|BPF_W|BPF_ABS, SKF_AD_OFF+SKF_AD_IFINDEX)"),
    ((0x15, 0, 3, 0x800), "BPF_JUMP(BPF_JMP|BPF_K|BPF_JEQ, 0x800, 0, 0x3)"),
    ((0x45, 1, 0, 0x1FFF), "BPF_JUMP(BPF_JMP|BPF_K|BPF_JSET, 0x1fff, 0x1, 0)"),
    ((0xB1, 0, 0, 14), "BPF_STMT(BPF_LDX|BPF_B|BPF_MSH, 0xe)"),
    ((0x1C, 0, 0, 0), "BPF_STMT(BPF_ALU|BPF_X|BPF_SUB, 0)"),
    ((0x87, 0, 0, 0), "BPF_STMT(BPF_MISC|BPF_TXA, 0)"),
    ((0x16, 0, 0, 0), "BPF_STMT(BPF_RET|BPF_A, 0)"),
    ((0x8006, 0, 0, 1), "BPF_STMT(BPF_RET|BPF_K|0x8000, 0x1)"),
])  # fmt: skip
def test_instructions_of_a_filter(words: tuple[int, int, int, int], text: str) -> None:
    """They are written by the macros of linux/filter.h; half an instruction is none."""
    raw = struct.pack("<HBBI", *words)
    assert instructions(raw + raw[:7]) == [text]


def test_native_time_stamps_have_two_longs() -> None:
    one = struct.pack("<Qiiqq", 32, 1, 35, 1 << 33, 5)
    header = struct.pack("<QiiQQQQiI", 0, 0, 0, 0, 0, CONTROL, 32, 0, 0)
    decoded = decode(BY_NAME["sendmsg"], [3, AT, 0], {"msg": header, "msg.control": one}, {}, 0, 64)
    assert decoded["msg"]["control"][0]["data"] == {"sec": 1 << 33, "nsec": 5}


#: ioctl request, bytes it reads at entry and writes by its exit on i386, the same in a native call of x86-64.
REQUESTS = [
    (0x5421, 4, 0, 4, 0), (0x5452, 4, 0, 4, 0), (0x8901, 4, 0, 4, 0), (0x8902, 4, 0, 4, 0),
    (0x541B, 0, 4, 0, 4), (0x5411, 0, 4, 0, 4), (0x894B, 0, 4, 0, 4), (0x8903, 0, 4, 0, 4), (0x8904, 0, 4, 0, 4),
    (0x8905, 0, 4, 0, 4), (0x8906, 0, 8, 0, 16), (0x8907, 0, 8, 0, 16), (0x80108906, 0, 16, 0, 16),
    (0x80108907, 0, 16, 0, 16), (0x8912, 8, 8, 16, 16),
    *((number, 32, 32, 40, 40) for number in (0x8910, 0x8913, 0x8914, 0x8915, 0x8921, 0x8927, 0x8933, 0x8937, 0x8942,
                                              0x8943, 0x8970, 0x8971)),
    *((number, 0, 0, 0, 0) for number in (0x890B, 0x8938, 0x8946, 0x8955, 0x89F0, 0, 0xFFFFFFFF)),
]  # fmt: skip


@pytest.mark.parametrize(("request_number", "read", "written", "wide_read", "wide_written"), REQUESTS)
def test_ioctl_sizes(request_number: int, read: int, written: int, wide_read: int, wide_written: int) -> None:
    def size(ret: int | None, word: int, above: int) -> int:
        blobs = fetch(BY_NAME["ioctl"], [3, request_number | above, AT], lambda _, size: bytes(size), ret, word)
        return len(blobs.get("argp", b""))

    assert (size(None, 32, 0), size(0, 32, 0)) == (read, written)
    assert (size(None, 64, 0), size(0, 64, 0)) == (wide_read, wide_written)
    assert size(0, 64, 1 << 32) == wide_written


#: fcntl command and whether its argument is a pointer.
COMMANDS = {
    "F_DUPFD": 0, "F_GETFD": 0, "F_GETFL": 0, "F_GETLK": 1, "F_SETLK": 1, "F_SETLKW": 1, "F_SETOWN": 0, "F_GETOWN": 0,
    "F_SETSIG": 0, "F_GETSIG": 0, "F_GETLK64": 1, "F_SETLK64": 1, "F_SETLKW64": 1, "F_SETOWN_EX": 1, "F_GETOWN_EX": 1,
    "F_GETOWNER_UIDS": 1, "F_OFD_GETLK": 1, "F_OFD_SETLK": 1, "F_OFD_SETLKW": 1, "F_SETLEASE": 0, "F_GETLEASE": 0,
    "F_NOTIFY": 0, "F_DUPFD_QUERY": 0, "F_CREATED_QUERY": 0, "F_CANCELLK": 1, "F_DUPFD_CLOEXEC": 0, "F_SETPIPE_SZ": 0,
    "F_GETPIPE_SZ": 0, "F_ADD_SEALS": 0, "F_GET_SEALS": 0, "F_GET_RW_HINT": 1, "F_SET_RW_HINT": 1,
    "F_GET_FILE_RW_HINT": 1, "F_SET_FILE_RW_HINT": 1,
}  # fmt: skip
NUMBERS = [0, 1, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 36, 37, 38, *range(1024, 1039)]


@pytest.mark.parametrize(("number", "name"), list(zip(NUMBERS, COMMANDS, strict=True)))
def test_fcntl_commands(number: int, name: str) -> None:
    decoded = decode(BY_NAME["fcntl64"], [3, number, 0x1000], {}, {}, 0, 32)
    assert decoded == {"fd": 3, "cmd": name, "arg": "0x1000" if COMMANDS[name] else 4096}


def test_the_tables_of_names_written_by_hand() -> None:
    """Once more, in hexadecimal, from include/linux/net.h, asm-generic/fcntl.h and asm-generic/poll.h."""
    assert {name: number for number, name in names.TYPES.items()} == {
        "SOCK_STREAM": 1, "SOCK_DGRAM": 2, "SOCK_RAW": 3, "SOCK_RDM": 4, "SOCK_SEQPACKET": 5, "SOCK_DCCP": 6,
        "SOCK_PACKET": 10}  # fmt: skip
    assert names.TYPE_FLAGS == {0x80000: "SOCK_CLOEXEC", 0x800: "SOCK_NONBLOCK"}
    assert [names.HOW[n] for n in range(3)] == ["SHUT_RD", "SHUT_WR", "SHUT_RDWR"]
    assert [names.ACCESS[n] for n in range(4)] == ["O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE"]
    assert {name: number for number, name in names.FILE_FLAGS.items()} == {
        "O_CREAT": 0x40, "O_EXCL": 0x80, "O_NOCTTY": 0x100, "O_TRUNC": 0x200, "O_APPEND": 0x400, "O_NONBLOCK": 0x800,
        "O_DSYNC": 0x1000, "O_ASYNC": 0x2000, "O_DIRECT": 0x4000, "O_LARGEFILE": 0x8000, "O_DIRECTORY": 0x10000,
        "O_NOFOLLOW": 0x20000, "O_NOATIME": 0x40000, "O_CLOEXEC": 0x80000, "__O_SYNC": 0x100000, "O_PATH": 0x200000,
        "__O_TMPFILE": 0x400000}  # fmt: skip
    assert {name: number for number, name in names.POLL.items()} == {
        "POLLIN": 1, "POLLPRI": 2, "POLLOUT": 4, "POLLERR": 8, "POLLHUP": 16, "POLLNVAL": 32, "POLLRDNORM": 64,
        "POLLRDBAND": 128, "POLLWRNORM": 256, "POLLWRBAND": 512, "POLLMSG": 1024, "POLLREMOVE": 4096,
        "POLLRDHUP": 8192}  # fmt: skip
