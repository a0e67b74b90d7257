"""SO_RCVTIMEO and SO_SNDTIMEO in the two layouts of i386: with 32-bit time (20, 21) and with 64-bit time (66, 67)."""

import struct
from errno import EDOM, EINVAL
from socket import SOL_SOCKET

import pytest

from probes.entry.memory import POISON
from probes.testing import behaviour, need
from probes.testing.socket_kinds import TCP, UNIX_STREAM

SOURCE = "socket(7) SO_RCVTIMEO and SO_SNDTIMEO; include/uapi/asm-generic/socket.h; BEHAVIOURS The i386 layouts"
SET = "sock_set_timeout, sock_copy_user_timeval"
GET = "sk_getsockopt, sock_get_timeout"
#: Options by name: number, layout of the value, number of the other layout of the same time.
OPTIONS = {
    "SO_RCVTIMEO_OLD": (20, "<ii", 66), "SO_SNDTIMEO_OLD": (21, "<ii", 67),
    "SO_RCVTIMEO_NEW": (66, "<qq", 20), "SO_SNDTIMEO_NEW": (67, "<qq", 21),
}  # fmt: skip
OTHER_LAYOUT = {"<ii": "<qq", "<qq": "<ii"}
#: Seconds of four different bytes, and microseconds that are whole ticks at every rate of the kernel's clock.
SECONDS, MICROSECONDS = 0x010203, 500_000
#: More than any of the structures.
ROOM = 32

each_option = pytest.mark.parametrize("option", OPTIONS)


@behaviour("options.timeout.layout", f"{SOURCE}; {SET}; {GET}")
@each_option
def test_layout(option, new_socket, expect):
    """SO_RCVTIMEO and SO_SNDTIMEO are two 32-bit numbers, 8 bytes, in their old form (20, 21), and two 64-bit numbers, 16
    bytes, in the new one (66, 67). What one form sets the other returns, and the other direction keeps its value.
    """
    number, layout, other = OPTIONS[option]
    for kind in (TCP, UNIX_STREAM):
        socket = new_socket(*kind.triple)
        value = struct.pack(layout, SECONDS, MICROSECONDS)
        expect(0, kind=kind).of(socket.setsockopt(SOL_SOCKET, number, value))
        expect(value, kind=kind, read="same").of(socket.getsockopt(SOL_SOCKET, number, ROOM))
        converted = struct.pack(OTHER_LAYOUT[layout], SECONDS, MICROSECONDS)
        expect(converted, kind=kind, read="other-form").of(socket.getsockopt(SOL_SOCKET, other, ROOM))
        direction = number ^ 1 if number < 66 else 66 + 67 - number
        unset = bytes(len(value))
        expect(unset, kind=kind, read="other-direction").of(socket.getsockopt(SOL_SOCKET, direction, ROOM))


@behaviour("options.timeout.room", f"{SOURCE}; {GET} `if (len > lv) len = lv`")
@each_option
def test_room(option, new_socket, calls, memory, expect):
    """getsockopt of SO_RCVTIMEO and SO_SNDTIMEO writes as many bytes as there is room for, at most the structure, reports
    that number, and writes nothing behind them.
    """
    number, layout, _ = OPTIONS[option]
    value = struct.pack(layout, SECONDS, MICROSECONDS)
    socket = new_socket(*TCP.triple)
    need(socket.setsockopt(SOL_SOCKET, number, value))
    for room in range(len(value) + 2):
        written = value[:room]
        check = expect([0, len(written), written + bytes([POISON]) * (ROOM - len(written))], room=room)
        into, length = memory.alloc(ROOM), memory.words(room)
        result = calls.make("getsockopt", socket, SOL_SOCKET, number, into, length)
        check.of([result, length.words()[0], into.read()], result)


@behaviour("options.timeout.length", f"{SOURCE}; {SET} `if (optlen < sizeof(`")
@each_option
def test_length(option, new_socket, calls, memory, expect):
    """setsockopt of SO_RCVTIMEO and SO_SNDTIMEO fails with EINVAL if the length is less than the structure or negative, and
    sets nothing; a longer one is accepted.
    """
    number, layout, _ = OPTIONS[option]
    value = struct.pack(layout, SECONDS, MICROSECONDS)
    socket, block = new_socket(*TCP.triple), memory.put(value.ljust(ROOM, b"\0"))
    short = [*range(len(value)), -1, -(2**31)]
    check = expect([-EINVAL] * len(short), lengths="short")
    results = [calls.make("setsockopt", socket, SOL_SOCKET, number, block, length) for length in short]
    check.of(results, *results)
    expect(bytes(len(value)), lengths="short", afterwards="value").of(socket.getsockopt(SOL_SOCKET, number, ROOM))
    long = range(len(value), ROOM)
    check = expect([0] * len(long), lengths="long")
    results = [calls.make("setsockopt", socket, SOL_SOCKET, number, block, length) for length in long]
    check.of(results, *results)


@behaviour("options.timeout.range", f"{SOURCE}; {SET}; sock_set_timeout `tv_usec < 0 || tv_usec >= USEC_PER_SEC`")
@each_option
def test_range(option, new_socket, expect):
    """setsockopt of SO_RCVTIMEO and SO_SNDTIMEO fails with EDOM if the microseconds are negative or a second and more, and
    sets nothing. Negative seconds are accepted, and read as 0.
    """
    number, layout, _ = OPTIONS[option]
    value = struct.pack(layout, SECONDS, MICROSECONDS)
    socket = new_socket(*TCP.triple)
    need(socket.setsockopt(SOL_SOCKET, number, value))
    for microseconds in (-1, -(2**31), 1_000_000, 2**31 - 1):
        for seconds in (0, -1, 5):
            bad = struct.pack(layout, seconds, microseconds)
            case = {"seconds": seconds, "microseconds": microseconds}
            expect(-EDOM, **case).of(socket.setsockopt(SOL_SOCKET, number, bad))
    expect(value, afterwards="value").of(socket.getsockopt(SOL_SOCKET, number, ROOM))
    for seconds in (-1, -(2**31)):
        expect(0, seconds=seconds).of(socket.setsockopt(SOL_SOCKET, number, struct.pack(layout, seconds, 0)))
        negative = expect(bytes(len(value)), seconds=seconds, afterwards="value")
        negative.of(socket.getsockopt(SOL_SOCKET, number, ROOM))
